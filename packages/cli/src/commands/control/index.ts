/** `lunfs control`: run a control plane, and log in to one. */
import type { Command } from 'commander';
import { serve } from './serve.js';
import { login, logout } from './login.js';

export function control(program: Command): void {
  const group = program.command('control').summary('the control plane').description('The control plane: users, tasks, events, an API. Hosts and guests run on without it.');
  serve(group);
  login(group);
  logout(group);
}

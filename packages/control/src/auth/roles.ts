/** Who may do what: a viewer reads, an operator changes storages, hosts' mounts and tasks, an admin changes users and hosts. Each may what the one before may. */
import { Type } from 'typebox';

export const ROLES = ['viewer', 'operator', 'admin'] as const;

export type Role = (typeof ROLES)[number];

export const RoleSchema = Type.Enum([...ROLES]);

export function mayAs(role: Role, needed: Role): boolean {
  return ROLES.indexOf(role) >= ROLES.indexOf(needed);
}

/** A token of a user never may more than the user. */
export function lesser(one: Role, other: Role): Role {
  return mayAs(one, other) ? other : one;
}

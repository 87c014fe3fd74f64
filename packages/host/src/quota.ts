/** Quota of a volume as its operator sees it: through the process that has it, or on the device itself. */
import { UsageError } from '@lunfs/device';
import type { Quota, QuotaLimits, QuotaRecord, QuotaSettings, QuotaType, Volume } from '@lunfs/ocfs2';

/** One kind of quota with all that is known of ids. */
export interface QuotaReport {
  readonly type: QuotaType;
  readonly settings: QuotaSettings;
  readonly records: readonly QuotaRecord[];
}

/** What can be asked of a volume's quota. */
export interface QuotaAccess {
  /** Reports of the kinds the volume keeps, or of the one named. Throws NO_QUOTA. */
  report(type?: QuotaType): Promise<QuotaReport[]>;
  setLimits(type: QuotaType, id: number, limits: Partial<QuotaLimits>): Promise<QuotaRecord>;
  setSettings(type: QuotaType, settings: Partial<QuotaSettings>): Promise<QuotaSettings>;
}

export function volumeQuota(volume: Volume): QuotaAccess {
  const quota = (): Quota => {
    if (volume.quota !== undefined) return volume.quota;
    const { device } = volume.geo;
    throw new UsageError('NO_QUOTA', 'EOPNOTSUPP', `${device} keeps no quota; volumes get it when they are made (lunfs mkfs --fs-features=usrquota,grpquota) or by tunefs.ocfs2`, { device });
  };
  return {
    report: async (type) => {
      const kept = quota();
      const reports: QuotaReport[] = [];
      for (const one of type === undefined ? kept.types : [type]) reports.push({ type: one, settings: await kept.settings(one), records: await kept.report(one) });
      return reports;
    },
    setLimits: async (type, id, limits) => quota().setLimits(type, id, limits),
    setSettings: async (type, settings) => quota().setSettings(type, settings),
  };
}

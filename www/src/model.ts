/**
 * What the notebook holds, and how landfall keeps it.
 *
 * `sites` come from the server (20,000 places of GeoNames); people add a note and a status.
 * `assessments` are written in the field, many to a site.
 */
import type { Collections } from "landfall";

export const siteStatuses = ["planned", "surveyed", "revisit", "no-access"] as const;
export type SiteStatus = (typeof siteStatuses)[number];

export interface Site {
  id: string;
  name: string;
  /** ISO 3166-1 alpha-2. */
  country: string;
  admin1: string;
  admin2: string;
  lat: number | string;
  lng: number | string;
  note?: string;
  status?: SiteStatus | "";
}

export interface Assessment {
  id: string;
  siteId: string;
  title: string;
  /** 1 (poor) to 5 (very good). */
  score: number;
  notes: string;
  createdAt: number;
}

// An object type and not an interface, so that it has the index signature `SyncManager` wants.
export type Fieldbook = { sites: Site; assessments: Assessment };

export const collections: Collections<Fieldbook> = {
  sites: { key: "id", indexes: ["name", "country", ["country", "name"]] },
  assessments: {
    key: "id",
    indexes: ["siteId"],
    references: { siteId: "sites" },
    priority: 1,
  },
};

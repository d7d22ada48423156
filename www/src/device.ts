/** One device: a database of its own, a network switch of its own, the same user. */
import { open, rest, type Collection, type SyncManager } from "landfall";
import { collections, type Assessment, type Fieldbook, type Site } from "./model.ts";
import { NetworkSwitch } from "./network-switch.ts";
import { Session } from "./session.ts";

export type DeviceId = "a" | "b";

export interface Device {
  readonly id: DeviceId;
  readonly name: string;
  readonly network: NetworkSwitch;
  readonly db: SyncManager<Fieldbook>;
  readonly sites: Collection<Site>;
  readonly assessments: Collection<Assessment>;
}

export function deviceName(id: DeviceId): string {
  return `Device ${id.toUpperCase()}`;
}

export async function openDevice(id: DeviceId): Promise<Device> {
  const name = `fieldbook-${id}`;
  const network = new NetworkSwitch(name);
  const session = new Session(network.fetch);
  const db = await open<Fieldbook>({
    name,
    user: session.user,
    backend: rest({
      url: new URL("/api/v1/sync", location.href),
      headers: session.headers,
      fetch: network.fetch,
      realtime: true,
    }),
    collections,
  });
  return {
    id,
    name: deviceName(id),
    network,
    db,
    sites: db.collection("sites"),
    assessments: db.collection("assessments"),
  };
}

/** Turns the device's network on or off. A device that has it back does not wait for a timer. */
export function setOnline(device: Device, online: boolean): void {
  device.network.set(online);
  if (online && device.db.status.phase !== "paused") {
    device.db.sync().catch(() => {
      // The status says what stopped it.
    });
  }
}

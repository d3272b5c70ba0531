// What the engine offers beyond the web's standard types: the event that carries
// a request. Only editors read this file; the build strips types unchecked.
interface FetchEvent extends Event {
  readonly request: Request;
  respondWith(response: Response | Promise<Response>): void;
}
declare function addEventListener(type: "fetch", listener: (event: FetchEvent) => void): void;

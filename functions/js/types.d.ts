// The engine's types beyond the web's standard ones: the event with a request.
// Only editors read this file; the build strips types without checking them.
interface FetchEvent extends Event {
  readonly request: Request;
  respondWith(response: Response | Promise<Response>): void;
}
declare function addEventListener(type: "fetch", listener: (event: FetchEvent) => void): void;

// The engine's types beyond the web's standard ones: the event with a request.
// Only editors read this file; the build strips types without checking them.
interface FetchEvent extends Event {
  readonly request: Request;
  respondWith(response: Response | Promise<Response>): void;
}
declare function addEventListener(type: "fetch", listener: (event: FetchEvent) => void): void;

// Of capabilities/wit/deps/mayfly-keyvalue.wit, what the samples use. A function that fails throws the
// error of the interface.
declare module "mayfly:keyvalue/store@0.1.0" {
  class Bucket {
    static open(label: string): Bucket;
    increment(key: string, delta: bigint): bigint;
  }
}

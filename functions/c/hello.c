// The smallest wasi:http function we ship: no libc, no generated bindings, one
// page of memory. Each host function is declared by hand as the canonical ABI
// flattens it: handles are numbers, a list is an address and a length, and a
// result that does not fit one number is written where the last argument points.
//
// Kind:  wasi:http 0.2 component.
// Build: zig cc -target wasm32-freestanding -nostdlib -Oz -Wl,--no-entry -o core.wasm hello.c
//        wasm-tools component embed --world http ../wit core.wasm -o embedded.wasm
//        wasm-tools component new embedded.wasm -o c-hello.wasm

#include <stddef.h>
#include <stdint.h>

#define IMPORT(module, name) __attribute__((import_module(module), import_name(name)))
#define EXPORT(name) __attribute__((export_name(name)))
#define HTTP "wasi:http/types@0.2.0"
#define STREAMS "wasi:io/streams@0.2.0"

typedef int32_t handle;

typedef struct { const char *at; size_t length; } bytes;
typedef struct { bytes name, value; } header;

// result<handle, E> for an E without a payload.
typedef struct { uint8_t failed; union { handle ok; uint8_t error; }; } handle_or_error;

// Room for a result<_, error-code> (40 bytes) or a result<_, stream-error>; the
// program looks only at the first byte.
typedef union { uint8_t failed; uint64_t room[5]; } outcome;

IMPORT(HTTP, "[resource-drop]incoming-request") void incoming_request_drop(handle);
IMPORT(HTTP, "[static]fields.from-list")
void fields_from_list(const header *, size_t count, handle_or_error *);
IMPORT(HTTP, "[constructor]outgoing-response") handle outgoing_response_new(handle fields);
IMPORT(HTTP, "[method]outgoing-response.body")
void outgoing_response_body(handle response, handle_or_error *);
// After `failed` comes either the response or, flattened, an error-code.
IMPORT(HTTP, "[static]response-outparam.set")
void response_outparam_set(handle param, int32_t failed, handle response, int32_t, int64_t,
                           int32_t, int32_t, int32_t, int32_t);
IMPORT(HTTP, "[method]outgoing-body.write")
void outgoing_body_write(handle body, handle_or_error *);
IMPORT(HTTP, "[static]outgoing-body.finish")
void outgoing_body_finish(handle body, int32_t has_trailers, handle trailers, outcome *);
IMPORT(STREAMS, "[method]output-stream.blocking-write-and-flush")
void output_stream_write(handle stream, const char *, size_t length, outcome *);
IMPORT(STREAMS, "[resource-drop]output-stream") void output_stream_drop(handle);

#define LITERAL(text) { text, sizeof(text) - 1 }
static const header headers[] = { { LITERAL("content-type"), LITERAL("text/plain") } };
static const char text[] = "hello from c\n";

static handle must(handle_or_error result) {
    if (result.failed) __builtin_trap();
    return result.ok;
}

EXPORT("wasi:http/incoming-handler@0.2.0#handle")
void handle_request(handle request, handle answer) {
    handle_or_error made;
    outcome ignored;

    incoming_request_drop(request);
    fields_from_list(headers, 1, &made);
    handle response = outgoing_response_new(must(made));
    outgoing_response_body(response, &made);
    handle body = must(made);
    response_outparam_set(answer, 0, response, 0, 0, 0, 0, 0, 0);

    outgoing_body_write(body, &made);
    handle stream = must(made);
    output_stream_write(stream, text, sizeof(text) - 1, &ignored);
    output_stream_drop(stream);
    outgoing_body_finish(body, 0, 0, &ignored);
}

// The host calls this to get memory for a string or a list that it returns. For
// the calls above that is only the text of an error, once.
EXPORT("cabi_realloc")
void *cabi_realloc(void *old, size_t old_size, size_t align, size_t size) {
    static uint64_t room[128];
    if (old || old_size || align > sizeof *room || size > sizeof room) __builtin_trap();
    return room;
}

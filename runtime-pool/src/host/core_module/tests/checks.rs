//! What a guest passes is checked as the engine checks it, and calls of the host end in the same errors.

use super::*;

const FROM_LIST: &str = "wasi:http/types/[static]fields.from-list";
const FIELDS: &str = "wasi:http/types/[constructor]fields";
const DROP_FIELDS: &str = "wasi:http/types/[resource-drop]fields";
const HAS: &str = "wasi:http/types/[method]fields.has";
const APPEND: &str = "wasi:http/types/[method]fields.append";
const GET: &str = "wasi:http/types/[method]fields.get";
const ENTRIES: &str = "wasi:http/types/[method]fields.entries";
const PATH: &str = "wasi:http/types/[method]incoming-request.path-with-query";
const HEADERS: &str = "wasi:http/types/[method]incoming-request.headers";
const RESPONSE: &str = "wasi:http/types/[constructor]outgoing-response";
const BODY: &str = "wasi:http/types/[method]outgoing-response.body";
const REQUEST: &str = "wasi:http/types/[constructor]outgoing-request";
const SET_METHOD: &str = "wasi:http/types/[method]outgoing-request.set-method";
const SET_PATH: &str = "wasi:http/types/[method]outgoing-request.set-path-with-query";
const SET_ANSWER: &str = "wasi:http/types/[static]response-outparam.set";
const SUBSCRIBE: &str = "wasi:clocks/monotonic-clock/subscribe-duration";
const DROP_POLLABLE: &str = "wasi:io/poll/[resource-drop]pollable";
const POLL: &str = "wasi:io/poll/poll";
const STDOUT: &str = "wasi:cli/stdout/get-stdout";
const WRITE: &str = "wasi:io/streams/[method]output-stream.blocking-write-and-flush";
const END: i64 = (PAGES * 65_536) as i64;

fn with(each: impl Fn(&mut TestGuest<'_>)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let _entered = runtime.enter();
    each(&mut Callers::new().guest(&Limits::default()));
}

/// Expects an error of each call. The instance ends with it, so that each has another one.
fn refused(calls: &[(&str, &[i64], &str)]) {
    let callers = Callers::new();
    for (name, arguments, text) in calls {
        let mut guest = callers.guest(&Limits::default());
        let fields = guest.call(FIELDS, &[]);
        let request = guest.call(REQUEST, &[fields]);
        assert_eq!((request, guest.call(FIELDS, &[])), (3, 4));
        let error = guest.error(name, arguments);
        assert!(error.contains(text), "{name} {arguments:?}: {error}");
    }
}

#[test]
fn fields_go_in_and_come_out() {
    with(|guest| {
        let fields = guest.call(FIELDS, &[]);
        guest.write(8, b"x-aAlpha");
        for (name, value) in [((8, 3), (11, 5)), ((8, 3), (11, 2))] {
            guest.call(APPEND, &[fields, name.0, name.1, value.0, value.1, 128]);
            assert_eq!(guest.memory()[128], 0);
        }
        assert_eq!(guest.call(HAS, &[fields, 8, 3]), 1);
        assert_eq!(guest.call(HAS, &[fields, 8, 2]), 0);
        guest.call(GET, &[fields, 8, 3, 128]);
        let (list, count) = (guest.word(128) as usize, guest.word(132));
        assert_eq!((list, count), (ALLOCATED as usize, 2));
        let (at, length) = (guest.word(list) as usize, guest.word(list + 4) as usize);
        assert_eq!(&guest.memory()[at..at + length], b"Alpha");
        guest.call(ENTRIES, &[fields, 128]);
        let list = guest.word(128) as usize;
        let (at, length) = (guest.word(list + 16) as usize, guest.word(list + 20) as usize);
        assert_eq!(&guest.memory()[at..at + length], b"x-a");
        let (at, length) = (guest.word(list + 24) as usize, guest.word(list + 28) as usize);
        assert_eq!(&guest.memory()[at..at + length], b"Al");
    });
}

#[test]
fn a_request_is_read_and_answered() {
    with(|guest| {
        guest.call(PATH, &[guest.request.into(), 128]);
        let (at, length) = (guest.word(132) as usize, guest.word(136) as usize);
        assert_eq!((guest.word(128), &guest.memory()[at..at + length]), (1, &b"/path?query"[..]));
        let headers = guest.call(HEADERS, &[guest.request.into()]);
        guest.write(8, b"x-name");
        assert_eq!(guest.call(HAS, &[headers, 8, 6]), 1);
        let fields = guest.call(FIELDS, &[]);
        let response = guest.call(RESPONSE, &[fields]);
        guest.call(BODY, &[response, 128]);
        assert_eq!(guest.word(128), 0);
        guest.call(SET_ANSWER, &[guest.answer.into(), 0, response, 0, 0, 0, 0, 0, 0]);
        let error = guest.error(BODY, &[response, 128]);
        assert_eq!(error, format!("unknown handle index {response}"));
    });
}

/// Case G34.
#[test]
fn handles_lead_to_what_the_guest_holds_and_to_nothing_else() {
    refused(&[
        (DROP_FIELDS, &[0], "unknown handle index 0"),
        (DROP_FIELDS, &[5], "unknown handle index 5"),
        (DROP_FIELDS, &[-1], "unknown handle index 4294967295"),
        (DROP_FIELDS, &[1], "used with the wrong type"),
        (HAS, &[3, 0, 0], "used with the wrong type"),
        (RESPONSE, &[3], "used with the wrong type"),
        (SET_ANSWER, &[2, 0, 2, 0, 0, 0, 0, 0, 0], "unknown handle index 2"),
        (SET_ANSWER, &[2, 0, 3, 0, 0, 0, 0, 0, 0], "used with the wrong type"),
    ]);
    with(|guest| {
        // What the host keeps besides has no handle.
        let pollable = guest.call(SUBSCRIBE, &[0]);
        assert_eq!(guest.error(DROP_POLLABLE, &[pollable + 1]), "unknown handle index 4");
    });
    with(|guest| {
        let fields = guest.call(FIELDS, &[]);
        guest.call(DROP_FIELDS, &[fields]);
        assert_eq!(guest.error(DROP_FIELDS, &[fields]), "unknown handle index 3");
    });
}

/// Case G35.
#[test]
fn addresses_and_lengths_are_within_the_memory_and_aligned() {
    refused(&[
        (HAS, &[4, END - 1, 2], "string pointer/length out of bounds of memory"),
        (HAS, &[4, -1, -1], "string pointer/length out of bounds of memory"),
        (HAS, &[4, 0, -1], "string pointer/length out of bounds of memory"),
        (FROM_LIST, &[END - 12, 1, 0], "list pointer/length out of bounds of memory"),
        (FROM_LIST, &[0, -1, 0], "list pointer/length out of bounds of memory"),
        (FROM_LIST, &[-4, -1, 0], "list pointer/length out of bounds of memory"),
        (FROM_LIST, &[2, 1, 0], "list pointer is not aligned"),
        (FROM_LIST, &[0, 0, 2], "pointer not aligned"),
        (FROM_LIST, &[0, 0, END - 4], "pointer out of bounds of memory"),
        (FROM_LIST, &[0, 0, -4], "pointer out of bounds of memory"),
        (PATH, &[1, END - 8], "pointer out of bounds of memory"),
    ]);
}

/// Case G36.
#[test]
fn texts_are_utf_8_and_cases_exist() {
    refused(&[
        (SET_METHOD, &[3, 10, 0, 0], "unexpected discriminant: 10"),
        (SET_METHOD, &[3, -1, 0, 0], "unexpected discriminant: 4294967295"),
        (SET_PATH, &[3, 2, 0, 0], "invalid option discriminant"),
        (SET_ANSWER, &[2, 2, 0, 0, 0, 0, 0, 0, 0], "invalid expected discriminant"),
        (SET_ANSWER, &[2, 1, 39, 0, 0, 0, 0, 0, 0], "unexpected discriminant: 39"),
    ]);
    with(|guest| {
        let fields = guest.call(FIELDS, &[]);
        guest.write(8, b"a\xffb");
        assert!(guest.error(HAS, &[fields, 8, 3]).contains("invalid utf-8"));
    });
    with(|guest| {
        let fields = guest.call(FIELDS, &[]);
        let request = guest.call(REQUEST, &[fields]);
        guest.write(8, b"\xc3");
        assert!(guest.error(SET_METHOD, &[request, 9, 8, 1]).contains("incomplete utf-8"));
    });
}

/// Case G37.
#[test]
fn one_call_hands_over_no_more_bytes_than_allowed() {
    let mut limits = Limits::default();
    limits.guest.hostcall_bytes = 1_000;
    let callers = Callers::new();
    let exhausted = |name: &str, arguments: &[i64]| {
        let mut guest = callers.guest(&limits);
        guest.call(FIELDS, &[]);
        let error = guest.error(name, arguments);
        assert!(error.contains("fuel allocated for hostcalls has been exhausted"), "{error}");
    };
    exhausted(HAS, &[3, 0, 1_001]);
    // Lists count by what their items take in the host.
    exhausted(FROM_LIST, &[0, 21, 0]);
    let mut guest = callers.guest(&limits);
    let fields = guest.call(FIELDS, &[]);
    for _ in 0..3 {
        assert_eq!(guest.call(HAS, &[fields, 0, 1_000]), 0, "each call may hand over as much");
    }
}

#[test]
fn there_are_no_more_handles_than_allowed() {
    let mut limits = Limits::default();
    limits.guest.component_handles = 5;
    let callers = Callers::new();
    let mut guest = callers.guest(&limits);
    for _ in 0..3 {
        guest.call(FIELDS, &[]);
    }
    assert!(guest.error(FIELDS, &[]).contains("store handle limit exceeded"));
}

/// Case G38.
#[test]
fn the_guests_allocator_is_not_trusted() {
    let callers = Callers::new();
    for (how, at, text) in [
        (AT_A_NUMBER, END - 10, "realloc return: beyond end of memory"),
        (AT_A_NUMBER, -1, "realloc return: beyond end of memory"),
        (CALLS_THE_HOST, 0, "cannot leave component instance"),
        (TRAPS, 0, "unreachable"),
        (RECURSES, 0, "call stack exhausted"),
    ] {
        let mut guest = callers.guest(&Limits::default());
        guest.allocate(how, at as i32);
        let error = guest.error(PATH, &[guest.request.into(), 128]);
        assert!(error.contains(text), "{how}: {error}");
    }
    let mut guest = callers.guest(&Limits::default());
    let headers = guest.call(HEADERS, &[guest.request.into()]);
    guest.allocate(AT_A_NUMBER, 2);
    assert_eq!(guest.error(ENTRIES, &[headers, 128]), "realloc return: result not aligned");
    // The same on the stack of a function that waits.
    for (how, at, text) in [
        (AT_A_NUMBER, 2, "realloc return: result not aligned"),
        (AT_A_NUMBER, END, "realloc return: beyond end of memory"),
        (CALLS_THE_HOST, 0, "cannot leave component instance"),
        (TRAPS, 0, "unreachable"),
        (RECURSES, 0, "call stack exhausted"),
    ] {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let _entered = runtime.enter();
        let mut guest = callers.guest(&Limits::default());
        let stdout = guest.call(STDOUT, &[]);
        let pollable =
            guest.call("wasi:io/streams/[method]output-stream.subscribe", &[stdout]) as i32;
        guest.write_words(8, &[pollable, pollable]);
        guest.allocate(how, at as i32);
        let error = guest.error(POLL, &[8, 2, 128]);
        assert!(error.contains(text), "{how}: {error}");
    }
}

#[test]
fn memory_that_has_grown_while_the_guest_allocates_is_found_again() {
    with(|guest| {
        guest.allocate(AFTER_GROWING, 0);
        guest.call(PATH, &[guest.request.into(), 128]);
        let (at, length) = (guest.word(132) as usize, guest.word(136) as usize);
        assert_eq!(at, PAGES * 65_536);
        assert_eq!(&guest.memory()[at..at + length], b"/path?query");
    });
}

#[test]
fn functions_that_wait_return_lists_and_write() {
    with(|guest| {
        let stdout = guest.call(STDOUT, &[]);
        guest.write(8, b"a line\n");
        guest.call(WRITE, &[stdout, 8, 7, 128]);
        assert_eq!(guest.memory()[128], 0);
        let pollable =
            guest.call("wasi:io/streams/[method]output-stream.subscribe", &[stdout]) as i32;
        guest.write_words(8, &[pollable, pollable]);
        guest.call(POLL, &[8, 2, 128]);
        let (at, count) = (guest.word(128) as usize, guest.word(132));
        assert_eq!((count, guest.word(at), guest.word(at + 4)), (2, 0, 1));
    });
}

#[test]
fn a_later_version_of_an_interface_has_the_same_functions() {
    // The guest of these tests imports versions up to 0.2.19.
    with(|guest| assert!(guest.callers.functions.len() > 100));
}

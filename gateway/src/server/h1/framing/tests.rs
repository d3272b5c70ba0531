use proptest::prelude::*;

use super::*;

const LIMITS: HeadLimits = HeadLimits { bytes: 4 << 10, fields: 8, target_bytes: 100 };

fn framing(fields: &str) -> Result<Framing, RequestRejection> {
    let text = format!("POST /a HTTP/1.1\r\n{fields}\r\n");
    head(text.as_bytes(), &LIMITS).map(|head| head.expect("the head is complete").framing)
}

fn chunks(body: &str) -> Result<(usize, bool), (usize, &'static str)> {
    let mut chunks = ChunkState::BEGIN;
    chunks.advance(body.as_bytes()).map(|bytes| (bytes, chunks == ChunkState::End))
}

#[test]
fn a_head_says_what_follows_it() {
    assert_eq!(framing(""), Ok(Framing::Length(0)));
    assert_eq!(framing("Content-Length: 12\r\n"), Ok(Framing::Length(12)));
    assert_eq!(framing("content-length:\t007 \r\n"), Ok(Framing::Length(7)));
    assert_eq!(framing("Transfer-Encoding: Chunked\r\n"), Ok(Framing::Chunked));
}

#[test]
fn a_head_ends_at_its_empty_line() {
    let text = b"\r\nGET / HTTP/1.0\r\na: b\r\n\r\nrest";
    let found = head(text, &LIMITS).unwrap().unwrap();
    assert_eq!(found.bytes, text.len() - 4);
    for cut in 0..found.bytes {
        assert_eq!(head(&text[..cut], &LIMITS), Ok(None), "{cut}");
        assert!(!has_end(&text[..cut], 0), "{cut}");
    }
    assert!(has_end(text, found.bytes - 1));
}

#[test]
fn a_target_is_encoded_where_the_library_would_refuse_it() {
    let text = "\r\nGET /a\"b?c=<d>&`|{e}\u{e9} HTTP/1.1\r\nhost: \"<\u{e9}\r\n\r\n";
    let found = head(text.as_bytes(), &LIMITS).unwrap().unwrap();
    assert_eq!(found.unencoded, 6);
    let encoded = with_encoded_target(text.as_bytes());
    let expected = "\r\nGET /a%22b?c=%3Cd%3E&%60|{e}%C3%A9 HTTP/1.1\r\nhost: \"<\u{e9}\r\n\r\n";
    assert_eq!(String::from_utf8(encoded.clone()).unwrap(), expected);
    let again = head(&encoded, &LIMITS).unwrap().unwrap();
    assert_eq!((again.unencoded, again.bytes), (0, encoded.len()));
    // It counts as it is passed on.
    let long = format!("GET /{:<<34} HTTP/1.1\r\n\r\n", "");
    assert_eq!(head(long.as_bytes(), &LIMITS), Err(RequestRejection::TargetBytes(100)));
}

#[test]
fn limits_are_kept() {
    let long = format!("GET /{:a<100} HTTP/1.1\r\n\r\n", "");
    assert_eq!(head(long.as_bytes(), &LIMITS), Err(RequestRejection::TargetBytes(100)));
    assert_eq!(framing(&"a: b\r\n".repeat(8)), Ok(Framing::Length(0)));
    assert_eq!(framing(&"a: b\r\n".repeat(9)), Err(RequestRejection::Fields(8)));
    assert_eq!(framing(&format!("a: {:b<4096}\r\n", "")), Err(RequestRejection::HeadBytes(4096)));
}

#[test]
fn chunks_end_after_the_last() {
    assert_eq!(chunks("3\r\nabc\r\n0\r\n\r\nGET"), Ok((13, true)));
    assert_eq!(chunks("3;a=b\r\nabc\r\n00\r\na: b\r\n\r\n"), Ok((24, true)));
    assert_eq!(chunks("A\r\n0123456789\r\n"), Ok((15, false)));
}

#[test]
fn ambiguous_chunks_are_rejected() {
    for (body, valid) in [
        ("-1\r\n", 0),
        ("0x3\r\n", 1),
        (" 3\r\n", 0),
        ("3 \r\n", 1),
        ("3\nabc", 1),
        ("\r\n", 0),
        ("fffffffffffffffff\r\n", 15),
        ("3\r\nabcd", 6),
        ("3\r\nabc\n", 6),
        ("3;\n\r\n", 2),
        ("0\r\n\n", 3),
        ("0\r\n a: b\r\n", 3),
        ("0\r\na: \0", 6),
    ] {
        assert_eq!(chunks(body).unwrap_err().0, valid, "{body:?}");
    }
}

proptest! {
    #[test]
    fn no_head_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(Some(found)) = head(&bytes, &LIMITS) {
            prop_assert!(found.bytes <= bytes.len());
            prop_assert!(has_end(&bytes, 0));
            let encoded = with_encoded_target(&bytes[..found.bytes]);
            let again = head(&encoded, &LIMITS).unwrap().unwrap();
            prop_assert_eq!((again.unencoded, again.framing), (0, found.framing));
        }
    }

    /// The pieces are meaningful, so that many of the texts are nearly valid.
    #[test]
    fn an_accepted_request_is_read_the_same_in_any_pieces(
        pieces in proptest::collection::vec("GET|POST| |/|HTTP/1.1|\r\n|\n|:|host|content-length|transfer-encoding|chunked|[0-9a-f]|;|\r", 0..40),
        cut in 0_usize..100,
    ) {
        let text = format!("GET / HTTP/1.1\r\n{}\r\n\r\n", pieces.concat());
        let whole = head(text.as_bytes(), &LIMITS);
        let part = head(&text.as_bytes()[..cut.min(text.len())], &LIMITS);
        match (whole, part) {
            (Ok(Some(whole)), Ok(Some(part))) => prop_assert_eq!(whole, part),
            (Ok(Some(_)), part) => prop_assert_eq!(part, Ok(None)),
            (Err(_), _) => {}
            (Ok(None), part) => prop_assert_eq!(part, Ok(None)),
        }
        let body = pieces.concat();
        let (mut once, mut twice) = (ChunkState::BEGIN, ChunkState::BEGIN);
        let cut = cut.min(body.len());
        let at_once = once.advance(body.as_bytes());
        let in_two = twice.advance(&body.as_bytes()[..cut]).and_then(|first| {
            let rest = twice.advance(&body.as_bytes()[first.min(cut)..]);
            rest.map(|rest| first + rest).map_err(|(at, wrong)| (first + at, wrong))
        });
        prop_assert_eq!(at_once, in_two);
    }
}

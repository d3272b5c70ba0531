//! A program that misbehaves in one of several ways. The path selects the way.
//!
//! - `/loop`: computes endlessly;
//! - `/hoard`: allocates memory until there is none left;
//! - `/clock`: reads both clocks 100,000 times and answers with their largest step,
//!   sleeps 50 ms and answers with their step in that time; all in nanoseconds;
//! - `/sleep`: sleeps `?ms=` milliseconds, or endlessly;
//! - `/bytes`: writes its body one byte at a time, 100,000 of them;
//! - `/endless`: writes its body without end;
//! - `/trap`: writes 200,000 bytes, and then traps;
//! - `/exit`: writes nothing and exits with 0;
//! - `/log`: writes 1 MB to standard error;
//! - `/ends`: writes `?bytes=` line ends to standard error in one piece, and answers;
//! - `/panic`: panics with its environment;
//! - `/random`: requests `?bytes=` random bytes in one call, after an answer of `?first=`.

use std::io::{self, Write as _};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

fn main() {
    let path = std::env::var("PATH_INFO").unwrap_or_default();
    match path.as_str() {
        "/loop" => compute(),
        "/hoard" => hoard(),
        "/clock" => clock(),
        "/sleep" => {
            sleep(Duration::from_millis(number("ms").unwrap_or(250_000_000)));
            write(b"Content-Type: text/plain\n\nslept\n");
        }
        "/bytes" => (0..100_000).for_each(|n| write(if n == 0 { HEAD } else { b"x" })),
        "/endless" => loop {
            write(HEAD);
        },
        "/trap" => {
            write(HEAD);
            write(&[b'x'; 200_000]);
            core::arch::wasm32::unreachable();
        }
        "/exit" => std::process::exit(0),
        "/log" => (0..10_000).for_each(|_| eprintln!("{:.<99}", "")),
        "/ends" => {
            // Filled in pieces, because one large fill is not interrupted.
            let mut ends = Vec::with_capacity(number("bytes").unwrap_or(0) as usize);
            while ends.len() + 4096 <= ends.capacity() {
                ends.extend_from_slice(std::hint::black_box(&[b'\n'; 4096]));
            }
            let _ = io::stderr().write_all(&ends);
            write(b"Content-Type: text/plain\n\nended\n");
        }
        "/panic" => panic!("{:?}", std::env::vars().collect::<Vec<_>>()),
        "/random" => random(),
        _ => write(b"Content-Type: text/plain\n\nno such case\n"),
    }
}

const HEAD: &[u8] = b"Content-Type: text/plain\n\n";

fn write(bytes: &[u8]) {
    let mut out = io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).expect("the caller reads");
}

fn compute() {
    let mut turns = 0_u64;
    loop {
        turns = std::hint::black_box(turns.wrapping_add(1));
    }
}

fn hoard() {
    let mut hoard = Vec::new();
    loop {
        hoard.push(vec![1_u8; 1 << 20]);
        std::hint::black_box(&hoard);
    }
}

/// The number behind `key=` in the query.
fn number(key: &str) -> Option<u64> {
    let query = std::env::var("QUERY_STRING").ok()?;
    let value = query.split('&').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='));
    value?.parse().ok()
}

fn random() {
    let first = number("first").unwrap_or(0) as usize;
    if first > 0 {
        write(HEAD);
        write(&vec![b'x'; first]);
    }
    let mut random = vec![0; number("bytes").unwrap_or(0) as usize];
    // SAFETY: the buffer has room for the requested number of bytes.
    unsafe { random_get(random.as_mut_ptr(), random.len()) };
    if first == 0 {
        write(HEAD);
    }
    write(format!("{}\n", random.len()).as_bytes());
}

#[link(wasm_import_module = "wasi_snapshot_preview1")]
unsafe extern "C" {
    fn random_get(bytes: *mut u8, length: usize) -> u16;
}

fn clock() {
    let (monotonic, wall) = (Instant::now(), SystemTime::now());
    let moved = || (monotonic.elapsed().as_nanos(), wall.elapsed().unwrap_or_default().as_nanos());
    let mut most = (0, 0);
    for _ in 0..100_000 {
        let moved = moved();
        most = (most.0.max(moved.0), most.1.max(moved.1));
    }
    sleep(Duration::from_millis(50));
    let slept = moved();
    write(HEAD);
    write(format!("{} {} {} {} 1000000", most.0, most.1, slept.0, slept.1).as_bytes());
}

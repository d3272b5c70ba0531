//! Answers with values that must differ between instances: a random number, the
//! clock, a variable; and with a result of its start-up. Each of its other exports
//! is another start-up, and most of them make a snapshot impossible.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use wasip2::http::types::{Fields, IncomingRequest, ResponseOutparam};

tests_http::serve!(handle);

static LEFT: Mutex<String> = Mutex::new(String::new());
static OPEN: Mutex<Option<Fields>> = Mutex::new(None);
static HOARD: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

fn handle(_request: IncomingRequest, answer: ResponseOutparam) {
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
    let variable = std::env::var("GREETING").unwrap_or_default();
    let left = LEFT.lock().unwrap();
    let random = RandomState::new().hash_one(0);
    tests_http::text(answer, &format!("{random}\n{clock}\n{variable}\n{left}\n"));
}

/// A start-up with the same result every time.
#[unsafe(export_name = "wizer-initialize")]
pub extern "C" fn prepare() {
    LEFT.lock().unwrap().push_str("prepared");
}

#[unsafe(export_name = "hash")]
pub extern "C" fn hash() {
    *LEFT.lock().unwrap() = RandomState::new().hash_one(0).to_string();
}

#[unsafe(export_name = "look-at-the-clock")]
pub extern "C" fn look_at_the_clock() {
    *LEFT.lock().unwrap() = format!("{:?}", SystemTime::now());
}

#[unsafe(export_name = "read-a-variable")]
pub extern "C" fn read_a_variable() {
    *LEFT.lock().unwrap() = std::env::var("GREETING").unwrap_or_default();
}

#[unsafe(export_name = "keep-something-open")]
pub extern "C" fn keep_something_open() {
    *OPEN.lock().unwrap() = Some(Fields::new());
}

#[unsafe(export_name = "write-something")]
pub extern "C" fn write_something() {
    println!("preparing");
    prepare();
}

#[unsafe(export_name = "give-up")]
pub extern "C" fn give_up() {
    panic!("the table is empty");
}

#[unsafe(export_name = "leave")]
pub extern "C" fn leave() {
    std::process::exit(3);
}

#[unsafe(export_name = "never-end")]
pub extern "C" fn never_end() {
    loop {
        std::hint::black_box(());
    }
}

#[unsafe(export_name = "hoard")]
pub extern "C" fn hoard() {
    loop {
        HOARD.lock().unwrap().push(vec![1; 1 << 20]);
    }
}

#[unsafe(export_name = "with-parameters")]
pub extern "C" fn with_parameters(number: u32) -> u32 {
    number
}

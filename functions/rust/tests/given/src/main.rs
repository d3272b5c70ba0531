//! Works with files that the function was given, built for WASI preview 1 and as a component. The path
//! of the request selects what it does with the file or directory of `?path=`:
//!
//! - `/read`: its content;
//! - `/sum`: its length and the sum of its bytes, read in pieces of `?piece=` bytes;
//! - `/list`: what is in it, in the order of the host;
//! - `/stat`: what is known about it;
//! - `/change`: tries to change it, and whatever is in it, in every way;
//! - `/open`: opens all files that are in it, and keeps them open while it reads each;
//! - `/both`: copies it to the scratch directory and back, as far as that goes.

use std::{
    ffi::{CString, c_char, c_int},
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    time::UNIX_EPOCH,
};

unsafe extern "C" {
    fn symlink(target: *const c_char, path: *const c_char) -> c_int;
    fn link(target: *const c_char, path: *const c_char) -> c_int;
}

fn main() {
    let path = parameter("path").unwrap_or_default();
    let answer = match std::env::var("PATH_INFO").unwrap_or_default().as_str() {
        "/read" => fs::read_to_string(&path),
        "/sum" => sum(&path),
        "/list" => list(&path),
        "/stat" => stat(&path),
        "/change" => Ok(change(&path)),
        "/open" => open(&path),
        "/both" => both(&path),
        other => Ok(format!("there is no {other}")),
    };
    println!("Content-Type: text/plain\n");
    match answer {
        Ok(text) => print!("{text}"),
        Err(error) => print!("failed: {}", error.raw_os_error().unwrap_or_default()),
    }
}

fn parameter(name: &str) -> Option<String> {
    let query = std::env::var("QUERY_STRING").ok()?;
    let value = query.split('&').find_map(|word| word.strip_prefix(name)?.strip_prefix('='))?;
    Some(decoded(value))
}

/// `%C3%A4` to `ä`.
fn decoded(value: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits: Vec<u8> = rest.by_ref().take(2).collect();
        let digits = std::str::from_utf8(&digits).unwrap();
        bytes.push(u8::from_str_radix(digits, 16).unwrap());
    }
    String::from_utf8(bytes).unwrap()
}

fn sum(path: &str) -> io::Result<String> {
    let piece = parameter("piece").and_then(|piece| piece.parse().ok()).unwrap_or(4096);
    let (mut file, mut buffer) = (File::open(path)?, vec![0; piece]);
    let (mut length, mut sum) = (0, 0_u64);
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        length += read;
        sum += buffer[..read].iter().map(|byte| u64::from(*byte)).sum::<u64>();
    }
    assert_eq!(file.seek(SeekFrom::End(0))?, length as u64);
    assert_eq!(file.seek(SeekFrom::Start(length as u64 / 2))?, length as u64 / 2);
    let mut half = Vec::new();
    file.read_to_end(&mut half)?;
    assert_eq!(half.len(), length - length / 2);
    Ok(format!("{length} {sum}"))
}

fn list(path: &str) -> io::Result<String> {
    let names = fs::read_dir(path)?.map(|entry| {
        let entry = entry?;
        let slash = if entry.file_type()?.is_dir() { "/" } else { "" };
        Ok(format!("{}{slash}", entry.file_name().to_string_lossy()))
    });
    Ok(names.collect::<io::Result<Vec<_>>>()?.join(" "))
}

fn stat(path: &str) -> io::Result<String> {
    let data = fs::metadata(path)?;
    let kind = if data.is_dir() { "directory" } else { "file" };
    let seconds = |time: io::Result<std::time::SystemTime>| {
        time.map_or(u64::MAX, |time| time.duration_since(UNIX_EPOCH).unwrap().as_secs())
    };
    let (modified, accessed) = (seconds(data.modified()), seconds(data.accessed()));
    Ok(format!("{kind} {} {modified} {accessed}", data.len()))
}

/// The number of the error of each try, or what was done.
fn change(path: &str) -> String {
    let tried = |result: io::Result<()>| match result {
        Ok(()) => "DONE".to_owned(),
        Err(error) => error.raw_os_error().unwrap_or_default().to_string(),
    };
    let linked = |call: unsafe extern "C" fn(*const c_char, *const c_char) -> c_int| {
        let [from, to] = [path, "/link"].map(|path| CString::new(path).unwrap());
        // SAFETY: both are strings of C.
        let status = unsafe { call(from.as_ptr(), to.as_ptr()) };
        if status == 0 { "DONE" } else { "refused" }.to_owned()
    };
    let beside = format!("{path}.new");
    [
        tried(OpenOptions::new().write(true).open(path).map(drop)),
        tried(OpenOptions::new().append(true).open(path).map(drop)),
        tried(OpenOptions::new().write(true).truncate(true).open(path).map(drop)),
        tried(File::create(path).map(drop)),
        tried(File::create_new(path).map(drop)),
        tried(File::create(&beside).map(drop)),
        tried(File::open(path).and_then(|mut file| file.write_all(b"x"))),
        tried(File::open(path).and_then(|file| file.set_len(0))),
        tried(File::open(path).and_then(|file| file.set_modified(UNIX_EPOCH))),
        tried(fs::remove_file(path)),
        tried(fs::rename(path, &beside)),
        tried(fs::create_dir(&beside)),
        tried(fs::remove_dir("/")),
        linked(symlink),
        linked(link),
        tried(fs::read("/../etc/passwd").map(drop)),
        tried(fs::read("../../etc/passwd").map(drop)),
        tried(fs::read("/etc/passwd").map(drop)),
        tried(fs::read("/proc/self/environ").map(drop)),
    ]
    .join(" ")
}

fn open(path: &str) -> io::Result<String> {
    let mut files = Vec::new();
    for entry in fs::read_dir(path)? {
        let path = entry?.path();
        files.push(File::open(path)?);
    }
    let mut bytes = 0;
    for mut file in &files {
        bytes += file.read_to_end(&mut Vec::new())?;
    }
    Ok(format!("{} {bytes}", files.len()))
}

fn both(path: &str) -> io::Result<String> {
    let copied = fs::copy(path, "/tmp/copy")?;
    let renamed = |from: &str, to: &str| {
        fs::rename(from, to).map_or_else(|error| error.raw_os_error().unwrap_or_default(), |()| 0)
    };
    let out = renamed("/tmp/copy", &format!("{path}.new"));
    let into = renamed(path, "/tmp/moved");
    let names = list("/tmp")?;
    fs::remove_file("/tmp/copy")?;
    Ok(format!("{copied} {out} {into} {names}"))
}

//! Works with files under `/tmp`, built for WASI preview 1 and as a component. The path of the request
//! selects what it does:
//!
//! - `/all`: each operation of Rust's `std::fs` once, with its result checked;
//! - `/escape`: tries to get out of the directory, and to make links;
//! - `/fill`: writes until there is no space, then frees it and writes again;
//! - `/many`: makes empty files until there is no space;
//! - `/open`: opens files until no more may be open;
//! - `/far`: writes behind a hole, at the far end of a file;
//! - `/names`: names and paths that are too long;
//! - `/remove`: makes `?count=` files, and removes them while it reads their directory;
//! - `/memory`: allocates memory until there is none left, after a file of `?bytes=`;
//! - `/left`: what there is in the directory, and leaves a file there.

use std::{
    ffi::{CString, c_char, c_int},
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::fd::AsRawFd as _,
};

/// WASI's numbers of errors, for which Rust does not have all the names.
const EEXIST: i32 = 20;
const EFBIG: i32 = 22;
const EISDIR: i32 = 31;
const ENOENT: i32 = 44;
const EIO: i32 = 29;
const ENOSPC: i32 = 51;
const ENOTDIR: i32 = 54;
const ENOTEMPTY: i32 = 55;

/// What a write gets that fails because of `error`: the C library of components knows no more.
const fn of_write(error: i32) -> i32 {
    if cfg!(target_env = "p2") { EIO } else { error }
}

unsafe extern "C" {
    fn symlink(target: *const c_char, path: *const c_char) -> c_int;
    fn link(target: *const c_char, path: *const c_char) -> c_int;
    fn ftruncate(file: c_int, length: i64) -> c_int;
}

fn main() {
    let path = std::env::var("PATH_INFO").unwrap_or_default();
    let answer = match path.as_str() {
        "/all" => all().map(|()| "all is well".to_owned()),
        "/escape" => Ok(escape()),
        "/fill" => fill(),
        "/many" => Ok(many()),
        "/open" => Ok(open()),
        "/far" => far(),
        "/names" => Ok(names()),
        "/remove" => remove(),
        "/memory" => memory(),
        _ => left(),
    };
    println!("Content-Type: text/plain\n");
    match answer {
        Ok(text) => println!("{text}"),
        Err(error) => println!("failed: {error}"),
    }
}

fn number(name: &str) -> Option<usize> {
    let query = std::env::var("QUERY_STRING").ok()?;
    let value = query.split('&').find_map(|word| word.strip_prefix(name)?.strip_prefix('='))?;
    value.parse().ok()
}

fn all() -> io::Result<()> {
    let directory = "/tmp/a directory";
    fs::create_dir(directory)?;
    let path = format!("{directory}/file");
    let mut file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
    file.write_all(b"0123456789")?;
    assert_eq!(file.seek(SeekFrom::Current(-4))?, 6);
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    assert_eq!(text, "6789");
    file.seek(SeekFrom::Start(2))?;
    file.write_all(b"xy")?;
    file.seek(SeekFrom::End(3))?;
    file.write_all(b"end")?;
    file.sync_all()?;
    assert_eq!(fs::read(&path)?, b"01xy456789\0\0\0end");

    let mut appending = OpenOptions::new().append(true).open(&path)?;
    appending.write_all(b"+1")?;
    file.rewind()?;
    file.write_all(b"A")?;
    appending.write_all(b"+2")?;
    assert_eq!(fs::read(&path)?, b"A1xy456789\0\0\0end+1+2");
    file.set_len(4)?;
    file.set_len(6)?;
    assert_eq!(fs::read(&path)?, b"A1xy\0\0");
    let metadata = fs::metadata(&path)?;
    assert!(metadata.is_file() && metadata.len() == 6 && metadata.modified().is_ok());
    assert!(fs::metadata(directory)?.is_dir());
    for (error, expected) in [
        (File::create_new(&path).unwrap_err(), EEXIST),
        (fs::create_dir(directory).unwrap_err(), EEXIST),
        (fs::remove_dir(directory).unwrap_err(), ENOTEMPTY),
        (fs::remove_dir(&path).unwrap_err(), ENOTDIR),
        (fs::remove_file(directory).unwrap_err(), EISDIR),
        (fs::read("/tmp/none").unwrap_err(), ENOENT),
        (fs::read(format!("{path}/x")).unwrap_err(), ENOTDIR),
    ] {
        assert_eq!(error.raw_os_error(), Some(expected), "{error}");
    }
    assert!(File::open(&path)?.write(b"x").is_err());
    assert!(File::create(directory).is_err());

    // A file that is replaced or removed stays for those that have it open.
    fs::write("/tmp/other", "other")?;
    fs::rename("/tmp/other", &path)?;
    assert_eq!(fs::read(&path)?, b"other");
    file.rewind()?;
    let mut old = Vec::new();
    file.read_to_end(&mut old)?;
    assert_eq!(old, b"A1xy\0\0");
    fs::remove_file(&path)?;
    assert_eq!(fs::read_dir(directory)?.count(), 0);

    for n in 0..200 {
        fs::write(format!("{directory}/{n}"), vec![b'x'; n])?;
    }
    let mut sizes = fs::read_dir(directory)?
        .map(|entry| Ok(entry?.metadata()?.len()))
        .collect::<io::Result<Vec<_>>>()?;
    sizes.sort_unstable();
    assert_eq!(sizes, (0..200).collect::<Vec<_>>());
    fs::create_dir_all("/tmp/x/y/z")?;
    assert!(fs::rename("/tmp/x", "/tmp/x/y/z/x").is_err());
    fs::rename(directory, "/tmp/x/y/moved")?;
    assert_eq!(fs::read("/tmp/x/y/moved/3")?, b"xxx");
    fs::copy("/tmp/x/y/moved/5", "/tmp/x/../copy")?;
    assert_eq!(fs::read("/tmp/copy")?, b"xxxxx");
    fs::remove_dir_all("/tmp/x")?;
    fs::remove_file("/tmp/copy")?;
    assert_eq!(fs::read_dir("/tmp")?.count(), 0);

    let large: Vec<u8> = (0..3_000_000_u32).map(|n| (n / 7) as u8).collect();
    fs::write("/tmp/large", &large)?;
    assert!(fs::read("/tmp/large")? == large);
    fs::remove_file("/tmp/large")
}

/// What each try came to, a word for each.
fn escape() -> String {
    let failed = |result: io::Result<()>| if result.is_err() { "refused" } else { "DONE" };
    let linked = |call: unsafe extern "C" fn(*const c_char, *const c_char) -> c_int| {
        let [from, to] = ["/tmp/file", "/tmp/link"].map(|path| CString::new(path).unwrap());
        // SAFETY: both are strings of C.
        let status = unsafe { call(from.as_ptr(), to.as_ptr()) };
        if status == 0 { "DONE" } else { "refused" }
    };
    fs::write("/tmp/file", "x").unwrap();
    [
        failed(fs::read("/etc/passwd").map(drop)),
        failed(fs::read("/tmp/../etc/passwd").map(drop)),
        failed(fs::read("/tmp/a/../../etc/passwd").map(drop)),
        failed(fs::read("../etc/passwd").map(drop)),
        failed(fs::read("/tmp//etc/../../etc/passwd").map(drop)),
        failed(fs::write("/tmp/../escaped", "x")),
        failed(fs::create_dir("/tmp/../escaped")),
        failed(fs::rename("/tmp/file", "/tmp/../escaped")),
        failed(fs::read_dir("/").map(drop)),
        failed(fs::read_dir("/tmp/..").map(drop)),
        failed(fs::remove_dir("/tmp")),
        linked(symlink),
        linked(link),
    ]
    .join(" ")
}

/// Writes until there is no space. Returns the bytes.
fn write_all_there_is(file: &mut File) -> usize {
    let mut written = 0;
    loop {
        match file.write(&[7; 50_000]) {
            Ok(bytes) => written += bytes,
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(of_write(ENOSPC)), "{error}");
                return written;
            }
        }
    }
}

fn fill() -> io::Result<String> {
    let mut file = File::create("/tmp/full")?;
    let first = write_all_there_is(&mut file);
    assert_eq!(file.metadata()?.len(), first as u64);
    let full = Some(of_write(ENOSPC));
    assert_eq!(fs::write("/tmp/another", "x").unwrap_err().raw_os_error(), full);
    // Its content stays until it is closed.
    fs::remove_file("/tmp/full")?;
    assert_eq!(fs::write("/tmp/another", "x").unwrap_err().raw_os_error(), full);
    fs::remove_file("/tmp/another")?;
    drop(file);
    let second = write_all_there_is(&mut File::create("/tmp/full")?);
    let third = write_all_there_is(&mut File::create("/tmp/full")?);
    Ok(format!("{first} {second} {third}"))
}

fn many() -> String {
    let made = (0..).find_map(|n| File::create(format!("/tmp/{n}")).err().map(|error| (n, error)));
    let (made, error) = made.unwrap();
    assert_eq!(error.raw_os_error(), Some(ENOSPC), "{error}");
    made.to_string()
}

fn open() -> String {
    fs::write("/tmp/file", "x").unwrap();
    let mut files = Vec::new();
    loop {
        match File::open("/tmp/file") {
            Ok(file) => files.push(file),
            Err(error) => return format!("{} {error}", files.len()),
        }
    }
}

fn far() -> io::Result<String> {
    let mut file = File::create("/tmp/far")?;
    file.seek(SeekFrom::Start(500_000))?;
    file.write_all(b"x")?;
    let mut errors = Vec::new();
    for far in [1 << 30, 1 << 40, i64::MAX as u64] {
        file.seek(SeekFrom::Start(far))?;
        errors.push(file.write(b"x").unwrap_err().raw_os_error());
    }
    assert!(errors.iter().all(|error| *error == Some(of_write(EFBIG))), "{errors:?}");
    // SAFETY: the descriptor is open.
    let status = unsafe { ftruncate(file.as_raw_fd(), 1 << 40) };
    assert_eq!((status, io::Error::last_os_error().raw_os_error()), (-1, Some(EFBIG)));
    let content = fs::read("/tmp/far")?;
    assert!(content[..500_000].iter().all(|byte| *byte == 0));
    Ok(content.len().to_string())
}

fn names() -> String {
    let make = |name: String| match File::create(format!("/tmp/{name}")) {
        Ok(_) => "made".to_owned(),
        Err(error) => error.kind().to_string(),
    };
    [make("n".repeat(255)), make("n".repeat(256)), make("./".repeat(3_000) + "x")].join(", ")
}

fn remove() -> io::Result<String> {
    let count = number("count").unwrap_or(1_000);
    fs::create_dir("/tmp/many")?;
    for n in 0..count {
        File::create(format!("/tmp/many/{n}"))?;
    }
    for entry in fs::read_dir("/tmp/many")? {
        fs::remove_file(entry?.path())?;
    }
    fs::remove_dir("/tmp/many")?;
    Ok("removed".to_owned())
}

fn memory() -> io::Result<String> {
    let bytes = number("bytes").unwrap_or(0);
    fs::write("/tmp/file", vec![1; bytes])?;
    let mut blocks = Vec::new();
    loop {
        let mut block: Vec<u8> = Vec::new();
        if block.try_reserve_exact(1 << 20).is_err() {
            return Ok(blocks.len().to_string());
        }
        blocks.push(block);
    }
}

fn left() -> io::Result<String> {
    let mut names = fs::read_dir("/tmp")?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<io::Result<Vec<_>>>()?;
    names.sort_unstable();
    fs::write("/tmp/left", "left")?;
    Ok(format!("{names:?} {:?}", fs::read("/tmp/left")?))
}

//! Native code: a cache on disk, trusted only with our own seal.
//!
//! Wasmtime loads native code without verifying it: most single-bit errors pass its checks and
//! would run. So each file has a keyed hash beside it, made with a key that never leaves this
//! machine, and is loaded only after that hash was checked. A file that fails the check counts as
//! missing, and is recompiled.
//!
//! Hashing a large file costs more than a whole cold start. A process does it once per file; after
//! that the file's identity (device, inode, size, times of change) must stay the same, which only
//! the owner of the directory could forge.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::{
        fd::AsRawFd as _,
        unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;
use wasmtime::{Engine, Module, component::Component};

use crate::code::{
    artifact::ArtifactDigest,
    builds::{self, Builds, CODE, SEAL, TEMPORARY},
    inspect::Inspection,
    key::CodeKey,
    quota,
};

const SEAL_KEY: &str = "seal.key";
const SNAPSHOTS: &str = ".snapshots";

/// The directory of native code. Each build keeps its files in a directory of its own within.
pub(crate) struct CodeCache {
    dir: PathBuf,
    seal_key: [u8; 32],
    /// The name of this build.
    build: String,
    builds: Builds,
}

/// One file of native code that this process has verified or made.
#[derive(Debug)]
pub(crate) struct NativeCode {
    pub(crate) inspection: Inspection,
    /// Size of the file, which is about the memory that the code occupies when it is mapped.
    pub(crate) bytes: u64,
    path: PathBuf,
    identity: Identity,
}

/// The file beside the native code: what the code is, and the keyed hash of both.
#[derive(Serialize, Deserialize)]
struct Seal {
    inspection: Inspection,
    mac: String,
}

/// Tells a file from every other one, and from itself before a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    bytes: u64,
    changed: (i64, i64),
    modified: (i64, i64),
}

impl Identity {
    fn of(file: &File) -> io::Result<Self> {
        let data = file.metadata()?;
        Ok(Self {
            device: data.dev(),
            inode: data.ino(),
            bytes: data.len(),
            changed: (data.ctime(), data.ctime_nsec()),
            modified: (data.mtime(), data.mtime_nsec()),
        })
    }
}

impl CodeCache {
    /// Opens the directory. Makes it and its key if they do not exist, and removes the files of
    /// interrupted compilations.
    pub(crate) fn open(dir: &Path, compatibility: u64) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
                fs::remove_file(entry.path())?;
            }
        }
        let seal_key = seal_key(&dir.join(SEAL_KEY))?;
        let build = builds::name(compatibility);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir.join(&build))?;
        let builds = Builds::open(dir, &build)?;
        Ok(Self { dir: dir.to_owned(), seal_key, build, builds })
    }

    /// Whether this build is known to have native code of every active revision.
    pub(crate) fn is_complete(&self) -> bool {
        self.builds.is_complete()
    }

    /// Notes that there is native code of every active revision.
    pub(crate) fn set_complete(&self) -> io::Result<()> {
        self.builds.set_complete()
    }

    /// Whether the files of native code exist. Does not verify them.
    ///
    /// Blocks: asks the file system.
    pub(crate) fn has(&self, key: &CodeKey) -> bool {
        let name = self.name(key);
        self.seal_path(&name).exists() && self.code_path(&name).exists()
    }

    /// The verified native code of an artifact, if this build has any on this machine.
    ///
    /// Blocks: reads and hashes the whole file.
    pub(crate) fn find(&self, key: &CodeKey) -> Option<NativeCode> {
        let name = self.name(key);
        let seal = self.read_seal(&name)?;
        let path = self.code_path(&name);
        let mut file = File::open(&path).ok()?;
        let identity = Identity::of(&file).ok()?;
        let sealed = blake3::Hash::from_hex(&seal.mac).ok()?;
        let found = self.mac(&name, &seal.inspection, &mut file).ok()?;
        // `blake3::Hash` compares in constant time.
        let is_intact = sealed == found;
        if is_intact {
            quota::note_use(&self.seal_path(&name));
        }
        is_intact.then_some(NativeCode {
            inspection: seal.inspection,
            bytes: identity.bytes,
            path,
            identity,
        })
    }

    /// The inspection recorded in the seal of native code. Does not verify the code itself.
    ///
    /// Blocks: reads a small file.
    pub(crate) fn inspection(&self, key: &CodeKey) -> Option<Inspection> {
        self.read_seal(&self.name(key)).map(|seal| seal.inspection)
    }

    /// A new file for a compiler to write to.
    pub(crate) fn temporary(&self) -> io::Result<NamedTempFile> {
        tempfile::Builder::new().prefix(TEMPORARY).tempfile_in(&self.dir)
    }

    /// Seals what a compiler has written and puts it in place.
    ///
    /// Nothing is flushed to the disk: a file that a crash damages fails the check of its seal.
    /// Blocks: reads and hashes the whole file.
    pub(crate) fn store(
        &self,
        key: &CodeKey,
        inspection: Inspection,
        code: NamedTempFile,
    ) -> io::Result<NativeCode> {
        let name = self.name(key);
        if key.start_up.is_some() {
            let dir = snapshots_dir(&self.dir.join(&self.build), &key.digest);
            fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        }
        let mut file = File::open(code.path())?;
        let mac = self.mac(&name, &inspection, &mut file)?;
        let path = self.code_path(&name);
        // The code goes first. Between the two steps there is no seal, or an old one that does not
        // fit the new code; either way the code counts as missing.
        code.persist(&path)?;
        let identity = Identity::of(&file)?;
        let seal = Seal { inspection, mac: mac.to_hex().to_string() };
        let mut sealed = self.temporary()?;
        sealed.write_all(&serde_json::to_vec(&seal)?)?;
        sealed.persist(self.seal_path(&name))?;
        Ok(NativeCode { inspection: seal.inspection, bytes: identity.bytes, path, identity })
    }

    /// Removes an artifact's native code, of every build, after its last revision is gone.
    pub(crate) fn remove(&self, digest: &ArtifactDigest) {
        for dir in self.builds.dirs() {
            let name = plain_name(digest);
            for extension in [SEAL, CODE] {
                // It may never have been compiled; any other failure shows up as a full disk.
                let _ = fs::remove_file(dir.join(format!("{name}.{extension}")));
            }
            let _ = fs::remove_dir_all(snapshots_dir(&dir, digest));
        }
    }

    /// Removes native code, of every build, that was not used for longest, until there are at most
    /// `most` bytes of it besides `kept`. Returns how many were removed.
    pub(crate) fn trim(&self, most: u64, kept: &NativeCode) -> u64 {
        quota::trim(&self.builds.dirs(), most, &kept.path)
    }

    /// Removes native code of old builds. The previous build's stays, for a rollback.
    pub(crate) fn remove_old_builds(&self) -> io::Result<()> {
        self.builds.remove_old()
    }

    /// The path of native code below the directory, without an extension. Native code with a
    /// snapshot lies in a directory beside the plain one, so that `remove` finds it by its digest.
    fn name(&self, key: &CodeKey) -> String {
        let (build, plain) = (&self.build, plain_name(&key.digest));
        let Some(start_up) = &key.start_up else { return format!("{build}/{plain}") };
        let mut hasher = blake3::Hasher::new();
        hasher.update(&start_up.memory_bytes.to_le_bytes());
        hasher.update(start_up.function.as_bytes());
        format!("{build}/{plain}{SNAPSHOTS}/{}", hasher.finalize().to_hex())
    }

    fn read_seal(&self, name: &str) -> Option<Seal> {
        serde_json::from_slice(&fs::read(self.seal_path(name)).ok()?).ok()
    }

    fn code_path(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.{CODE}"))
    }

    fn seal_path(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.{SEAL}"))
    }

    fn mac(
        &self,
        name: &str,
        inspection: &Inspection,
        file: &mut File,
    ) -> io::Result<blake3::Hash> {
        let mut hasher = blake3::Hasher::new_keyed(&self.seal_key);
        hasher.update(name.as_bytes());
        hasher.update(&serde_json::to_vec(inspection)?);
        hasher.update_reader(file)?;
        Ok(hasher.finalize())
    }
}

fn plain_name(digest: &ArtifactDigest) -> String {
    blake3::Hash::from_bytes(digest.0).to_hex().to_string()
}

fn snapshots_dir(build_dir: &Path, digest: &ArtifactDigest) -> PathBuf {
    build_dir.join(format!("{}{SNAPSHOTS}", plain_name(digest)))
}

/// Reads the key, or makes one. A lost key costs one compilation of each function and no more.
fn seal_key(path: &Path) -> io::Result<[u8; 32]> {
    let mut key = [0; 32];
    match File::open(path) {
        Ok(mut file) if file.metadata()?.len() == 32 => {
            file.read_exact(&mut key)?;
            return Ok(key);
        }
        Ok(_) => fs::remove_file(path)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    getrandom::fill(&mut key).map_err(io::Error::other)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(&key)?;
    file.sync_all()?;
    Ok(key)
}

impl NativeCode {
    /// Maps a component into memory.
    pub(crate) fn component(&self, engine: &Engine) -> wasmtime::Result<Component> {
        let file = self.verified_file()?;
        #[expect(unsafe_code, reason = "the only way to load native code without compiling")]
        // SAFETY: our own compiler made the contents of this file: this process has checked their
        // keyed hash, and the open file is still the one that was hashed. The path leads to that
        // file through its descriptor, even if the directory changes meanwhile.
        unsafe {
            Component::deserialize_file(engine, format!("/proc/self/fd/{}", file.as_raw_fd()))
        }
    }

    /// Maps a core module into memory.
    pub(crate) fn module(&self, engine: &Engine) -> wasmtime::Result<Module> {
        let file = self.verified_file()?;
        #[expect(unsafe_code, reason = "the only way to load native code without compiling")]
        // SAFETY: as for a component.
        unsafe {
            Module::deserialize_open_file(engine, file)
        }
    }

    /// The file, if it is still the one that was verified.
    pub(crate) fn verified_file(&self) -> io::Result<File> {
        let file = File::open(&self.path)?;
        if Identity::of(&file)? == self.identity {
            Ok(file)
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidData, "native code changed on disk"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::code::{artifact::Kind, key::StartUp};

    fn inspection() -> Inspection {
        let kind = Kind::WasiPreview1;
        let (imports, exports) = (Vec::new(), Vec::new());
        Inspection { kind, imports, exports, core_module: false, snapshot: None }
    }

    fn kept(cache: &CodeCache, key: &CodeKey, code: &[u8]) {
        let mut file = cache.temporary().unwrap();
        file.write_all(code).unwrap();
        cache.store(key, inspection(), file).unwrap();
    }

    /// Case C06.
    #[test]
    fn no_bit_of_native_code_or_of_its_seal_can_change_unnoticed() {
        let dir = tempfile::tempdir().unwrap();
        let cache = CodeCache::open(dir.path(), 7).unwrap();
        let key = CodeKey { digest: ArtifactDigest([1; 32]), start_up: None };
        let code: Vec<u8> = (0..1_300_u32).map(|at| (at * 7 % 251) as u8).collect();
        kept(&cache, &key, &code);
        let name = cache.name(&key);
        let mut flips = 0;
        for path in [cache.code_path(&name), cache.seal_path(&name)] {
            let whole = fs::read(&path).unwrap();
            for bit in 0..whole.len() * 8 {
                let mut bytes = whole.clone();
                bytes[bit / 8] ^= 1 << (bit % 8);
                fs::write(&path, &bytes).unwrap();
                if let Some(found) = cache.find(&key) {
                    // A digit of the hash in capitals says the same.
                    let seal = |bytes| String::from_utf8(bytes).map(|text| text.to_lowercase());
                    assert_eq!(seal(bytes), seal(whole.clone()), "bit {bit} of {}", path.display());
                    assert_eq!(found.inspection, inspection());
                }
                flips += 1;
            }
            for cut in 0..whole.len() {
                fs::write(&path, &whole[..cut]).unwrap();
                assert!(cache.find(&key).is_none(), "{cut} bytes of {}", path.display());
            }
            fs::write(&path, &whole).unwrap();
            assert!(cache.find(&key).is_some());
        }
        assert!(flips > 10_000, "{flips}");
    }

    /// Case C07.
    #[test]
    fn native_code_of_another_engine_is_not_found_and_stays_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let ours = CodeCache::open(dir.path(), 7).unwrap();
        let key = CodeKey { digest: ArtifactDigest([1; 32]), start_up: None };
        kept(&ours, &key, b"ours");
        drop(ours);

        let newer = CodeCache::open(dir.path(), 8).unwrap();
        assert!(newer.find(&key).is_none());
        kept(&newer, &key, b"theirs");
        assert_eq!(newer.find(&key).unwrap().bytes, 6);

        let back = CodeCache::open(dir.path(), 7).unwrap();
        assert_eq!(back.find(&key).unwrap().bytes, 4);
        back.remove(&key.digest);
        assert!(!back.has(&key) && !newer.has(&key), "the files of both builds are gone");
    }

    #[test]
    fn code_with_another_start_behind_it_is_other_code_and_all_of_it_goes_with_the_artifact() {
        let dir = tempfile::tempdir().unwrap();
        let cache = CodeCache::open(dir.path(), 7).unwrap();
        let digest = ArtifactDigest([1; 32]);
        let start_up = |function: &str, memory_bytes| {
            Some(StartUp { function: function.into(), memory_bytes })
        };
        let keys: Vec<_> = [None, start_up("a", 1), start_up("b", 1), start_up("a", 2)]
            .map(|start_up| CodeKey { digest, start_up })
            .into();
        for (index, key) in keys.iter().enumerate() {
            assert!(cache.find(key).is_none(), "{key:?}");
            let mut code = cache.temporary().unwrap();
            code.write_all(&vec![b'x'; index]).unwrap();
            cache.store(key, inspection(), code).unwrap();
            assert_eq!(cache.find(key).unwrap().bytes, index as u64);
            assert_eq!(cache.inspection(key), Some(inspection()));
        }
        let other = CodeKey { digest: ArtifactDigest([2; 32]), start_up: start_up("a", 1) };
        cache.store(&other, inspection(), cache.temporary().unwrap()).unwrap();

        cache.remove(&digest);
        assert!(keys.iter().all(|key| cache.find(key).is_none()));
        assert!(cache.find(&other).is_some());
        let left = fs::read_dir(dir.path().join(&cache.build)).unwrap();
        assert_eq!(left.count(), 1, "the other artifact's directory");
    }
}

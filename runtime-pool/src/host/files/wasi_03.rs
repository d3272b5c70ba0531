//! `wasi:filesystem` 0.3 over the files of a guest.

mod streams;

use std::time::Duration;

use tokio::sync::oneshot;
use wasmtime::component::{Access, Accessor, FutureReader, Linker, StreamReader};
use wasmtime_wasi::p3::{
    bindings::{
        clocks::system_clock::Instant,
        filesystem::{
            preopens,
            types::{
                self, Advice, DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry,
                ErrorCode, MetadataHashValue, NewTimestamp, OpenFlags, PathFlags,
            },
        },
    },
    filesystem::{FilesystemError, FilesystemResult},
};

use self::streams::{EntryProducer, FileConsumer, FileProducer};
use super::{
    component::{Fd, FilesView, GuestFiles, Mode},
    handle::Handle,
    node::{Open, Stat, now},
    refused::{CallFailure, PosixRefusal},
};
use crate::host::Host;

type FilesAccess<'a> = Access<'a, Host, GuestFiles>;
/// How a stream has ended.
type Ended = FutureReader<Result<(), ErrorCode>>;

/// Replaces the interfaces.
pub(in crate::host) fn add_to_linker(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    types::add_to_linker::<Host, GuestFiles>(linker, Host::files)?;
    preopens::add_to_linker::<Host, GuestFiles>(linker, Host::files)?;
    linker.allow_shadowing(false);
    Ok(())
}

impl From<CallFailure> for FilesystemError {
    fn from(failure: CallFailure) -> Self {
        match failure {
            CallFailure::PosixRefusal(refused) => ErrorCode::from(refused).into(),
            CallFailure::Trap(error) => Self::trap(error),
        }
    }
}

impl From<PosixRefusal> for ErrorCode {
    fn from(refused: PosixRefusal) -> Self {
        match refused {
            PosixRefusal::BadDescriptor => Self::BadDescriptor,
            PosixRefusal::CrossDevice => Self::CrossDevice,
            PosixRefusal::Exists => Self::Exist,
            PosixRefusal::FileTooLarge => Self::FileTooLarge,
            PosixRefusal::IllegalBytes => Self::IllegalByteSequence,
            PosixRefusal::Invalid => Self::Invalid,
            PosixRefusal::Io => Self::Io,
            PosixRefusal::IsDirectory => Self::IsDirectory,
            PosixRefusal::NameTooLong => Self::NameTooLong,
            PosixRefusal::NoEntry => Self::NoEntry,
            PosixRefusal::NoSpace => Self::InsufficientSpace,
            PosixRefusal::NotDirectory => Self::NotDirectory,
            PosixRefusal::NotEmpty => Self::NotEmpty,
            PosixRefusal::NotPermitted => Self::NotPermitted,
            PosixRefusal::Overflow => Self::Overflow,
            PosixRefusal::ReadOnly => Self::ReadOnly,
            PosixRefusal::TooManyOpen => Self::InsufficientMemory,
            PosixRefusal::Unsupported => Self::Unsupported,
        }
    }
}

/// Does something with the descriptors.
fn with<R>(
    store: &Accessor<Host, GuestFiles>,
    act: impl FnOnce(FilesView<'_>) -> Result<R, CallFailure>,
) -> FilesystemResult<R> {
    store.with(|mut store| Ok(act(store.get())?))
}

/// Which handle a stream works on, or why there is none.
fn handle(found: Result<&Handle, CallFailure>) -> wasmtime::Result<Result<&Handle, ErrorCode>> {
    match found {
        Ok(handle) => Ok(Ok(handle)),
        Err(CallFailure::PosixRefusal(refused)) => Ok(Err(refused.into())),
        Err(CallFailure::Trap(error)) => Err(error),
    }
}

/// Passes what a stream brings to a file.
fn write(
    mut store: FilesAccess<'_>,
    fd: &Fd,
    mut data: StreamReader<u8>,
    offset: Option<u64>,
) -> wasmtime::Result<Ended> {
    let (sender, ended) = oneshot::channel();
    match handle(store.get().writable(fd))? {
        Ok(handle) => {
            let writer = FileConsumer::new(handle.clone(), offset, sender);
            data.pipe(&mut store, writer)?;
        }
        Err(error) => {
            data.close(&mut store)?;
            // There is no receiver if nobody will ask.
            let _ = sender.send(Err(error));
        }
    }
    FutureReader::new(&mut store, ended)
}

impl preopens::Host for FilesView<'_> {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Fd, String)>> {
        self.directories()
    }
}

impl types::Host for FilesView<'_> {
    fn convert_error_code(&mut self, error: FilesystemError) -> wasmtime::Result<ErrorCode> {
        error.downcast()
    }
}

impl types::HostDescriptor for FilesView<'_> {
    fn drop(&mut self, fd: Fd) -> wasmtime::Result<()> {
        self.close(&fd)
    }
}

impl types::HostDescriptorWithStore<Host> for GuestFiles {
    fn read_via_stream(
        mut store: FilesAccess<'_>,
        fd: Fd,
        offset: u64,
    ) -> wasmtime::Result<(StreamReader<u8>, Ended)> {
        let (sender, ended) = oneshot::channel();
        let stream = match handle(store.get().readable(&fd))? {
            Ok(handle) => {
                let reader = FileProducer::new(handle.clone(), offset, sender);
                StreamReader::new(&mut store, reader)?
            }
            Err(error) => {
                let _ = sender.send(Err(error));
                StreamReader::new(&mut store, std::iter::empty())?
            }
        };
        Ok((stream, FutureReader::new(&mut store, ended)?))
    }

    fn write_via_stream(
        store: FilesAccess<'_>,
        fd: Fd,
        data: StreamReader<u8>,
        offset: u64,
    ) -> wasmtime::Result<Ended> {
        write(store, &fd, data, Some(offset))
    }

    fn append_via_stream(
        store: FilesAccess<'_>,
        fd: Fd,
        data: StreamReader<u8>,
    ) -> wasmtime::Result<Ended> {
        write(store, &fd, data, None)
    }

    fn read_directory(
        mut store: FilesAccess<'_>,
        fd: Fd,
    ) -> wasmtime::Result<(StreamReader<DirectoryEntry>, Ended)> {
        let (sender, ended) = oneshot::channel();
        let stream = match handle(store.get().directory(&fd))? {
            Ok(handle) => {
                let entries = EntryProducer::new(handle.clone(), sender);
                StreamReader::new(&mut store, entries)?
            }
            Err(error) => {
                let _ = sender.send(Err(error));
                StreamReader::new(&mut store, std::iter::empty())?
            }
        };
        Ok((stream, FutureReader::new(&mut store, ended)?))
    }

    async fn advise(
        store: &Accessor<Host, Self>,
        fd: Fd,
        _: u64,
        _: u64,
        _: Advice,
    ) -> FilesystemResult<()> {
        with(store, |files| files.get(&fd).map(drop))
    }

    /// Nothing is written to a disk.
    async fn sync_data(store: &Accessor<Host, Self>, fd: Fd) -> FilesystemResult<()> {
        with(store, |files| files.get(&fd).map(drop))
    }

    async fn sync(store: &Accessor<Host, Self>, fd: Fd) -> FilesystemResult<()> {
        with(store, |files| files.get(&fd).map(drop))
    }

    async fn get_flags(store: &Accessor<Host, Self>, fd: Fd) -> FilesystemResult<DescriptorFlags> {
        let mode = with(store, |files| Ok(files.get(&fd)?.mode))?;
        let if_set = |set, flag| if set { flag } else { DescriptorFlags::empty() };
        Ok(if_set(mode.read, DescriptorFlags::READ)
            | if_set(mode.write, DescriptorFlags::WRITE)
            | if_set(mode.mutate, DescriptorFlags::MUTATE_DIRECTORY))
    }

    async fn get_type(store: &Accessor<Host, Self>, fd: Fd) -> FilesystemResult<DescriptorType> {
        with(store, |files| Ok(kind(files.status(&fd)?.is_directory)))
    }

    async fn set_size(store: &Accessor<Host, Self>, fd: Fd, size: u64) -> FilesystemResult<()> {
        with(store, |files| files.cut(&fd, size))
    }

    async fn set_times(
        store: &Accessor<Host, Self>,
        fd: Fd,
        accessed: NewTimestamp,
        modified: NewTimestamp,
    ) -> FilesystemResult<()> {
        let (accessed, modified) = (time(accessed)?, time(modified)?);
        with(store, |files| files.touch(&fd, None, accessed, modified))
    }

    async fn create_directory_at(
        store: &Accessor<Host, Self>,
        fd: Fd,
        path: String,
    ) -> FilesystemResult<()> {
        with(store, |files| files.make_directory(&fd, &path))
    }

    async fn stat(store: &Accessor<Host, Self>, fd: Fd) -> FilesystemResult<DescriptorStat> {
        with(store, |files| files.status(&fd).map(Into::into))
    }

    async fn stat_at(
        store: &Accessor<Host, Self>,
        fd: Fd,
        _: PathFlags,
        path: String,
    ) -> FilesystemResult<DescriptorStat> {
        with(store, |files| files.status_at(&fd, &path).map(Into::into))
    }

    async fn set_times_at(
        store: &Accessor<Host, Self>,
        fd: Fd,
        _: PathFlags,
        path: String,
        accessed: NewTimestamp,
        modified: NewTimestamp,
    ) -> FilesystemResult<()> {
        let (accessed, modified) = (time(accessed)?, time(modified)?);
        with(store, |files| files.touch(&fd, Some(&path), accessed, modified))
    }

    async fn link_at(
        _: &Accessor<Host, Self>,
        _: Fd,
        _: PathFlags,
        _: String,
        _: Fd,
        _: String,
    ) -> FilesystemResult<()> {
        Err(ErrorCode::NotPermitted.into())
    }

    async fn open_at(
        store: &Accessor<Host, Self>,
        fd: Fd,
        _: PathFlags,
        path: String,
        how: OpenFlags,
        flags: DescriptorFlags,
    ) -> FilesystemResult<Fd> {
        let mode = Mode {
            read: flags.contains(DescriptorFlags::READ),
            write: flags.contains(DescriptorFlags::WRITE),
            mutate: flags.contains(DescriptorFlags::MUTATE_DIRECTORY),
        };
        let how = Open {
            create: how.contains(OpenFlags::CREATE),
            exclusive: how.contains(OpenFlags::EXCLUSIVE),
            truncate: how.contains(OpenFlags::TRUNCATE),
            directory: how.contains(OpenFlags::DIRECTORY),
            write: mode.write,
        };
        with(store, |mut files| files.open(&fd, &path, how, mode))
    }

    async fn readlink_at(
        store: &Accessor<Host, Self>,
        fd: Fd,
        path: String,
    ) -> FilesystemResult<String> {
        with(store, |files| files.read_link(&fd, &path))
    }

    async fn remove_directory_at(
        store: &Accessor<Host, Self>,
        fd: Fd,
        path: String,
    ) -> FilesystemResult<()> {
        with(store, |files| files.remove_directory(&fd, &path))
    }

    async fn rename_at(
        store: &Accessor<Host, Self>,
        fd: Fd,
        path: String,
        new_fd: Fd,
        new_path: String,
    ) -> FilesystemResult<()> {
        with(store, |files| files.rename((&fd, &path), (&new_fd, &new_path)))
    }

    async fn symlink_at(
        _: &Accessor<Host, Self>,
        _: Fd,
        _: String,
        _: String,
    ) -> FilesystemResult<()> {
        Err(ErrorCode::NotPermitted.into())
    }

    async fn unlink_file_at(
        store: &Accessor<Host, Self>,
        fd: Fd,
        path: String,
    ) -> FilesystemResult<()> {
        with(store, |files| files.remove_file(&fd, &path))
    }

    async fn is_same_object(
        store: &Accessor<Host, Self>,
        one: Fd,
        other: Fd,
    ) -> wasmtime::Result<bool> {
        store.with(|mut store| store.get().is_same(&one, &other))
    }

    async fn metadata_hash(
        store: &Accessor<Host, Self>,
        fd: Fd,
    ) -> FilesystemResult<MetadataHashValue> {
        with(store, |files| Ok(hash(files.status(&fd)?)))
    }

    async fn metadata_hash_at(
        store: &Accessor<Host, Self>,
        fd: Fd,
        _: PathFlags,
        path: String,
    ) -> FilesystemResult<MetadataHashValue> {
        with(store, |files| Ok(hash(files.status_at(&fd, &path)?)))
    }
}

impl From<Stat> for DescriptorStat {
    fn from(stat: Stat) -> Self {
        let date = |time: Duration| {
            let seconds = i64::try_from(time.as_secs()).ok()?;
            Some(Instant { seconds, nanoseconds: time.subsec_nanos() })
        };
        Self {
            type_: kind(stat.is_directory),
            link_count: stat.links,
            size: stat.size,
            data_access_timestamp: date(stat.times.accessed),
            data_modification_timestamp: date(stat.times.modified),
            status_change_timestamp: date(stat.times.changed),
        }
    }
}

fn kind(is_directory: bool) -> DescriptorType {
    if is_directory { DescriptorType::Directory } else { DescriptorType::RegularFile }
}

/// C libraries use the lower half as the number of the file.
fn hash(stat: Stat) -> MetadataHashValue {
    MetadataHashValue { lower: u64::from(stat.node) + 1, upper: stat.device }
}

fn time(time: NewTimestamp) -> FilesystemResult<Option<Duration>> {
    match time {
        NewTimestamp::NoChange => Ok(None),
        NewTimestamp::Now => Ok(Some(now())),
        NewTimestamp::Timestamp(Instant { seconds, nanoseconds }) => match u64::try_from(seconds) {
            Ok(seconds) if nanoseconds < 1_000_000_000 => {
                Ok(Some(Duration::new(seconds, nanoseconds)))
            }
            _ => Err(ErrorCode::Invalid.into()),
        },
    }
}

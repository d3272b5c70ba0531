//! Resolves names as this machine is set up: by its hosts file and its name servers, as resolv.conf(5)
//! and hosts(5) say, and without a thread for each name.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Read as _},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{
    sync::Mutex,
    time::{self, Instant},
};

use super::query::{self, ASK_AGAIN, Answer, NoAnswer};

const RESOLV_CONF: &str = "/etc/resolv.conf";
const HOSTS: &str = "/etc/hosts";
const PORT: u16 = 53;
/// How long both files are believed before they are looked at again.
const FRESH: Duration = Duration::from_secs(5);
/// Bytes of a file that are read.
const FILE_BYTES: u64 = 1 << 20;
/// Name servers that are asked, and domains that are searched, as in other resolvers.
const SERVERS: usize = 3;
const DOMAINS: usize = 6;

/// The names that this machine knows, and the servers that it asks.
pub(super) struct MachineNames {
    resolv_conf: PathBuf,
    hosts: PathBuf,
    port: u16,
    read: Mutex<Option<ReadFiles>>,
}

struct ReadFiles {
    looked_at: Instant,
    versions: [FileVersion; 2],
    setup: Arc<NameSetup>,
}

/// A file is read again when this has changed. `None`: it cannot be read.
type FileVersion = Option<(SystemTime, u64)>;

#[derive(Debug, Default, PartialEq, Eq)]
struct NameSetup {
    servers: Vec<SocketAddr>,
    search: Vec<String>,
    /// A name with fewer dots is searched in the domains first.
    ndots: usize,
    hosts: HashMap<String, Vec<IpAddr>>,
}

impl MachineNames {
    pub(super) fn new() -> Self {
        Self::of(RESOLV_CONF.into(), HOSTS.into(), PORT)
    }

    fn of(resolv_conf: PathBuf, hosts: PathBuf, port: u16) -> Self {
        Self { resolv_conf, hosts, port, read: Mutex::new(None) }
    }

    /// `name` is in lower case.
    pub(super) async fn resolve(&self, name: &str) -> Answer {
        let setup = self.setup().await?;
        if let Some(found) = setup.hosts.get(name) {
            return Ok(found.clone());
        }
        let mut none = Err(NoAnswer::NoSuchName);
        for candidate in setup.candidates(name) {
            match setup.ask(&candidate).await {
                Ok(found) if !found.is_empty() => return Ok(found),
                // What says least about the name is said only if nothing else is known.
                Err(NoAnswer::NoSuchName) => {}
                other => none = other,
            }
        }
        none
    }

    async fn setup(&self) -> Result<Arc<NameSetup>, NoAnswer> {
        let mut read = self.read.lock().await;
        let versions = match &*read {
            Some(read) if read.looked_at.elapsed() < FRESH => return Ok(Arc::clone(&read.setup)),
            Some(read) => Some(read.versions),
            None => None,
        };
        let found = [version(&self.resolv_conf), version(&self.hosts)];
        let setup = match &*read {
            Some(read) if versions == Some(found) => Arc::clone(&read.setup),
            _ => {
                let (resolv_conf, hosts) = (self.resolv_conf.clone(), self.hosts.clone());
                let port = self.port;
                let parsed = move || NameSetup::parse(&text(&resolv_conf), &text(&hosts), port);
                Arc::new(tokio::task::spawn_blocking(parsed).await.map_err(NoAnswer::failed)?)
            }
        };
        let looked_at = Instant::now();
        *read = Some(ReadFiles { looked_at, versions: found, setup: Arc::clone(&setup) });
        Ok(setup)
    }
}

fn version(path: &Path) -> FileVersion {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

/// The beginning of a file. One that cannot be read has no lines.
fn text(path: &Path) -> String {
    let read = || -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(path)?.take(FILE_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    String::from_utf8_lossy(&read().unwrap_or_default()).into_owned()
}

impl NameSetup {
    fn parse(resolv_conf: &str, hosts: &str, port: u16) -> Self {
        let mut setup = Self { ndots: 1, ..Self::default() };
        for line in resolv_conf.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => {
                    let server = words.next().and_then(|word| word.parse::<IpAddr>().ok());
                    setup.servers.extend(server.map(|ip| SocketAddr::new(ip, port)));
                }
                // The last one counts.
                Some("search" | "domain") => {
                    let domain = |word: &str| word.trim_matches('.').to_ascii_lowercase();
                    setup.search = words.map(domain).filter(|word| !word.is_empty()).collect();
                }
                Some("options") => {
                    let ndots = words.filter_map(|word| word.strip_prefix("ndots:"));
                    let ndots = ndots.filter_map(|digits| digits.parse::<usize>().ok()).next_back();
                    setup.ndots = ndots.map_or(setup.ndots, |ndots| ndots.min(15));
                }
                _ => {}
            }
        }
        setup.servers.truncate(SERVERS);
        setup.search.truncate(DOMAINS);
        if setup.servers.is_empty() {
            setup.servers.push(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port));
        }
        for line in hosts.lines() {
            let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
            let Some(Ok(ip)) = words.next().map(str::parse::<IpAddr>) else { continue };
            for name in words {
                setup.hosts.entry(name.to_ascii_lowercase()).or_default().push(ip);
            }
        }
        setup
    }

    /// The names to ask for, in this order, until one has an address.
    fn candidates(&self, name: &str) -> Vec<String> {
        let mut candidates: Vec<String> =
            self.search.iter().map(|domain| format!("{name}.{domain}")).collect();
        let is_complete = name.matches('.').count() >= self.ndots;
        candidates.insert(if is_complete { 0 } else { candidates.len() }, name.to_owned());
        candidates
    }

    /// Asks the servers in turn until one answers; the caller has a deadline. A server that fails is
    /// passed over, and so is one that is silent, until its next turn.
    async fn ask(&self, name: &str) -> Answer {
        if let [server] = *self.servers {
            return query::ask(server, name).await;
        }
        loop {
            let mut failed = None;
            let mut silent = false;
            for server in &self.servers {
                match time::timeout(ASK_AGAIN, query::ask(*server, name)).await {
                    Ok(Err(NoAnswer::Failed(reason))) => failed = Some(reason),
                    Ok(answer) => return answer,
                    Err(_) => silent = true,
                }
            }
            match failed {
                Some(reason) if !silent => return Err(NoAnswer::Failed(reason)),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use simple_dns::{CLASS, Packet, PacketFlag, RCODE, rdata::A, rdata::RData};
    use tokio::net::UdpSocket;

    use super::*;

    fn setup(resolv_conf: &str) -> NameSetup {
        NameSetup::parse(resolv_conf, "", 53)
    }

    #[test]
    fn the_files_are_read_as_other_resolvers_read_them() {
        let read = NameSetup::parse(
            "# a comment\n; another\nnameserver 10.0.0.1\nnameserver ::1\nnameserver x\n\
             nameserver 10.0.0.3\nnameserver 10.0.0.4\ndomain old.example\n\
             search A.example b.example.\noptions timeout:1 ndots:5 rotate\n",
            "127.0.0.1 localhost # me\n\n#10.0.0.9 none\n10.0.0.1 One one.example\n10.0.0.2 one\nx y\n",
            53,
        );
        let servers = ["10.0.0.1:53", "[::1]:53", "10.0.0.3:53"].map(|text| text.parse().unwrap());
        assert_eq!(read.servers, servers);
        assert_eq!(read.search, ["a.example", "b.example"]);
        assert_eq!(read.ndots, 5);
        let ips = ["10.0.0.1", "10.0.0.2"].map(|text| text.parse::<IpAddr>().unwrap());
        assert_eq!(read.hosts["one"], ips);
        assert_eq!(read.hosts["one.example"], ips[..1]);
        assert!(!read.hosts.contains_key("none") && !read.hosts.contains_key("y"));
        let empty = setup("");
        assert_eq!((empty.servers, empty.ndots), (vec!["127.0.0.1:53".parse().unwrap()], 1));
    }

    #[test]
    fn a_name_with_few_dots_is_searched_first_and_a_complete_one_last() {
        let one = setup("search ns.svc svc\n");
        assert_eq!(one.candidates("db"), ["db.ns.svc", "db.svc", "db"]);
        assert_eq!(one.candidates("a.example"), ["a.example", "a.example.ns.svc", "a.example.svc"]);
        let five = setup("search svc\noptions ndots:5\n");
        assert_eq!(five.candidates("a.example"), ["a.example.svc", "a.example"]);
        assert_eq!(setup("").candidates("a"), ["a"]);
    }

    /// A name server that knows names that end in `known`, is silent about those with `silent`, and
    /// fails for those with `broken`.
    async fn server(at: Ipv4Addr, port: u16, known: &'static str) -> u16 {
        let socket = UdpSocket::bind((at, port)).await.unwrap();
        let port = socket.local_addr().unwrap().port();
        // Ends with the test's runtime.
        tokio::spawn(async move {
            let mut datagram = [0; 512];
            loop {
                let (length, from) = socket.recv_from(&mut datagram).await.unwrap();
                let mut reply = Packet::parse(&datagram[..length]).unwrap().into_reply();
                reply.set_flags(PacketFlag::RESPONSE);
                let name = reply.questions[0].qname.clone();
                let text = name.to_string();
                if text.contains("silent") && known == "first" {
                    continue;
                }
                if text.contains("broken") && known == "first" {
                    *reply.rcode_mut() = RCODE::ServerFailure;
                } else if text.ends_with(known) || known == "every" {
                    let address = RData::A(A { address: u32::from(at) });
                    reply.answers.push(simple_dns::ResourceRecord::new(
                        name,
                        CLASS::IN,
                        0,
                        address,
                    ));
                } else {
                    *reply.rcode_mut() = RCODE::NameError;
                }
                socket.send_to(&reply.build_bytes_vec().unwrap(), from).await.unwrap();
            }
        });
        port
    }

    #[tokio::test]
    async fn a_server_that_fails_or_is_silent_is_passed_over_and_the_files_are_looked_at_again() {
        let (one, two) = (Ipv4Addr::new(127, 0, 0, 1), Ipv4Addr::new(127, 0, 0, 2));
        let port = server(one, 0, "first").await;
        server(two, port, "every").await;
        let dir = tempfile::tempdir().unwrap();
        let (resolv_conf, hosts) = (dir.path().join("resolv.conf"), dir.path().join("hosts"));
        fs::write(&resolv_conf, format!("nameserver {one}\nnameserver {two}\nsearch lan first\n"))
            .unwrap();
        fs::write(&hosts, "10.0.0.7 fixed.example\n").unwrap();
        let names = MachineNames::of(resolv_conf, hosts.clone(), port);
        for (name, answer) in [
            ("fixed.example", Ok(IpAddr::from([10, 0, 0, 7]))),
            ("a.first", Ok(one.into())),
            // By the search domain; the first server's "no such name" is final for each candidate.
            ("short", Ok(one.into())),
            ("broken.example", Ok(two.into())),
            ("silent.example", Ok(two.into())),
        ] {
            let found = names.resolve(name).await.map(|found| found[0]);
            assert_eq!(found, answer, "{name}");
        }
        fs::write(&hosts, "10.0.0.8 fixed.example other.example\n").unwrap();
        names.read.lock().await.as_mut().unwrap().looked_at -= FRESH;
        assert_eq!(names.resolve("other.example").await.unwrap(), [IpAddr::from([10, 0, 0, 8])]);
    }
}

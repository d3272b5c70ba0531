//! Resolves names to addresses.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _},
    sync::Arc,
    time::Duration,
};

use simple_dns::{
    CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, TYPE, rdata::RData,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UdpSocket},
    sync::Semaphore,
    time,
};
use url::Host;

use super::{failure::OutboundFailure, rules::target::Target};

/// Concurrent look-ups by the system's resolver. Each blocks a thread of the pool that also reads
/// files.
const SYSTEM_LOOKUPS: usize = 64;
/// Time without an answer after which a name server is asked again: datagrams get lost.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// The largest answer over UDP that is read. Without extensions none has more than 512 bytes.
const DATAGRAM_BYTES: usize = 4_096;

/// Resolves names for the whole node.
pub(super) enum Resolver {
    /// Asks the operating system.
    System(Arc<Semaphore>),
    /// Asks this name server, and no other.
    Server(SocketAddr),
}

impl Resolver {
    pub(super) fn new(server: Option<SocketAddr>) -> Self {
        match server {
            Some(server) => Self::Server(server),
            None => Self::System(Arc::new(Semaphore::new(SYSTEM_LOOKUPS))),
        }
    }

    /// All addresses of a target; at least one.
    pub(super) async fn resolve(
        &self,
        target: &Target,
    ) -> Result<Vec<SocketAddr>, OutboundFailure> {
        let addresses = match &target.host {
            Host::Ipv4(ip) => vec![IpAddr::V4(*ip)],
            Host::Ipv6(ip) => vec![IpAddr::V6(*ip)],
            // RFC 6761: these names are resolved without a name server.
            Host::Domain(name) if name == "localhost" || name.ends_with(".localhost") => {
                vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]
            }
            Host::Domain(name) => match self {
                Self::System(lookups) => ask_system(lookups, name.clone()).await,
                Self::Server(server) => ask_server(*server, name).await,
            }
            .map_err(OutboundFailure::Name)?,
        };
        if addresses.is_empty() {
            return Err(OutboundFailure::Name("it has no address".into()));
        }
        Ok(addresses.into_iter().map(|ip| SocketAddr::new(ip, target.port)).collect())
    }
}

/// The thread keeps its permit even if the caller stops waiting, because the system's call blocks
/// it until there is an answer.
async fn ask_system(lookups: &Arc<Semaphore>, name: String) -> Result<Vec<IpAddr>, String> {
    let permit = Arc::clone(lookups).acquire_owned().await.expect("it is never closed");
    let asked = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        (name.as_str(), 0).to_socket_addrs().map(|found| found.map(|addr| addr.ip()).collect())
    });
    match asked.await {
        Ok(found) => found.map_err(|error: io::Error| error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

/// Asks for IPv4 and IPv6 addresses at the same time. Addresses of one kind are enough.
async fn ask_server(server: SocketAddr, name: &str) -> Result<Vec<IpAddr>, String> {
    let (v4, v6) = tokio::join!(ask(server, name, TYPE::A), ask(server, name, TYPE::AAAA));
    match (v4, v6) {
        (Ok(mut v4), Ok(v6)) => {
            v4.extend(v6);
            Ok(v4)
        }
        (Ok(found), Err(_)) | (Err(_), Ok(found)) if !found.is_empty() => Ok(found),
        (Err(reason), _) | (_, Err(reason)) => Err(reason),
    }
}

async fn ask(server: SocketAddr, name: &str, kind: TYPE) -> Result<Vec<IpAddr>, String> {
    let question = Query::new(name, kind)?;
    let exchange = async {
        match question.over_udp(server).await? {
            Some(answer) => Ok(answer),
            None => question.over_tcp(server).await,
        }
    };
    let answer = exchange.await.map_err(|error: io::Error| error.to_string())?;
    answer.addresses
}

/// A question, and its bytes.
struct Query {
    id: u16,
    bytes: Vec<u8>,
    name: String,
    kind: TYPE,
}

/// The answer to a question.
struct Reply {
    addresses: Result<Vec<IpAddr>, String>,
}

impl Query {
    fn new(name: &str, kind: TYPE) -> Result<Self, String> {
        let mut id = [0; 2];
        getrandom::fill(&mut id).map_err(|error| error.to_string())?;
        let id = u16::from_ne_bytes(id);
        let mut packet = Packet::new_query(id);
        packet.set_flags(PacketFlag::RECURSION_DESIRED);
        let qname = Name::new(name).map_err(|error| error.to_string())?;
        packet.questions.push(Question::new(qname, kind.into(), CLASS::IN.into(), false));
        let bytes = packet.build_bytes_vec().map_err(|error| error.to_string())?;
        Ok(Self { id, bytes, name: name.to_owned(), kind })
    }

    /// `None`: the answer is too long for a datagram. Repeats the question until there is an
    /// answer; the caller has a deadline.
    async fn over_udp(&self, server: SocketAddr) -> io::Result<Option<Reply>> {
        let any: IpAddr = match server {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        // A forged answer must match the port, which is new for each question, and the id. The
        // socket takes datagrams from the server alone.
        let socket = UdpSocket::bind((any, 0)).await?;
        socket.connect(server).await?;
        let mut datagram = vec![0; DATAGRAM_BYTES];
        loop {
            socket.send(&self.bytes).await?;
            let again = time::sleep(ASK_AGAIN);
            tokio::pin!(again);
            loop {
                tokio::select! {
                    () = &mut again => break,
                    received = socket.recv(&mut datagram) => {
                        let Some(packet) = self.read(&datagram[..received?]) else { continue };
                        if packet.has_flags(PacketFlag::TRUNCATION) {
                            return Ok(None);
                        }
                        return Ok(Some(Reply::of(&packet)));
                    }
                }
            }
        }
    }

    async fn over_tcp(&self, server: SocketAddr) -> io::Result<Reply> {
        let mut stream = TcpStream::connect(server).await?;
        let length = u16::try_from(self.bytes.len()).expect("a question is short");
        let mut framed = length.to_be_bytes().to_vec();
        framed.extend_from_slice(&self.bytes);
        stream.write_all(&framed).await?;
        let length = stream.read_u16().await?;
        let mut message = vec![0; length.into()];
        stream.read_exact(&mut message).await?;
        let packet = self.read(&message).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Reply::of(&packet))
    }

    /// Parses a message, if it answers this question.
    fn read<'a>(&self, message: &'a [u8]) -> Option<Packet<'a>> {
        let packet = Packet::parse(message).ok()?;
        let [question] = packet.questions.as_slice() else { return None };
        let same = packet.id() == self.id
            && packet.has_flags(PacketFlag::RESPONSE)
            && question.qname.to_string().eq_ignore_ascii_case(&self.name)
            && question.qtype == QTYPE::TYPE(self.kind)
            && question.qclass == QCLASS::CLASS(CLASS::IN);
        same.then_some(packet)
    }
}

impl Reply {
    /// Every address in the answer, even of another name: each of them is checked later.
    fn of(packet: &Packet<'_>) -> Self {
        let addresses = match packet.rcode() {
            RCODE::NoError => Ok(packet
                .answers
                .iter()
                .filter_map(|record| match &record.rdata {
                    RData::A(record) => Some(IpAddr::V4(Ipv4Addr::from(record.address))),
                    RData::AAAA(record) => Some(IpAddr::V6(Ipv6Addr::from(record.address))),
                    _ => None,
                })
                .collect()),
            RCODE::NameError => Err("there is no such name".to_owned()),
            other => Err(format!("the name server answered {other:?}")),
        };
        Self { addresses }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use simple_dns::{ResourceRecord, rdata::A};

    use super::*;

    fn answer(query: &Query, id: u16, name: &str) -> Vec<u8> {
        let mut packet = Packet::new_reply(id);
        let name = Name::new(name).unwrap();
        packet.questions.push(Question::new(
            name.clone(),
            query.kind.into(),
            CLASS::IN.into(),
            false,
        ));
        let address = RData::A(A { address: u32::from(Ipv4Addr::new(10, 0, 0, 1)) });
        packet.answers.push(ResourceRecord::new(name, CLASS::IN, 0, address));
        packet.build_bytes_vec().unwrap()
    }

    #[test]
    fn only_an_answer_to_the_question_is_read() {
        let query = Query::new("a.example", TYPE::A).unwrap();
        let right = answer(&query, query.id, "A.example");
        let packet = query.read(&right).unwrap();
        assert_eq!(Reply::of(&packet).addresses.unwrap(), [IpAddr::from([10, 0, 0, 1])]);
        assert!(query.read(&answer(&query, query.id ^ 1, "a.example")).is_none());
        assert!(query.read(&answer(&query, query.id, "b.example")).is_none());
        assert!(query.read(&query.bytes).is_none(), "a question is no answer");
    }

    proptest! {
        #[test]
        fn no_answer_of_a_name_server_panics(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..80),
            flips in proptest::collection::vec((0usize..64, any::<u8>()), 0..6),
            garbage: bool,
        ) {
            let query = Query::new("a.example", TYPE::A).unwrap();
            if !garbage {
                bytes = answer(&query, query.id, "a.example");
                for (at, byte) in flips {
                    let at = at % bytes.len();
                    bytes[at] ^= byte;
                }
            }
            if let Some(packet) = query.read(&bytes) {
                let _ = Reply::of(&packet).addresses;
            }
        }
    }
}

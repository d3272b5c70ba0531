//! Asks one name server for the addresses of a name.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    pin::pin,
    time::Duration,
};

use futures_util::future;
use simple_dns::{
    CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, ResourceRecord, TYPE,
    rdata::RData,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UdpSocket},
    time,
};

/// Time without an answer after which a name server is asked again: datagrams get lost.
pub(super) const ASK_AGAIN: Duration = Duration::from_secs(1);
/// The largest answer over UDP that is read. Without extensions none has more than 512 bytes.
const DATAGRAM_BYTES: usize = 4_096;

/// The addresses of a name, of which there may be none.
pub(super) type Answer = Result<Vec<IpAddr>, NoAnswer>;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoAnswer {
    #[error("there is no such name")]
    NoSuchName,
    #[error("{0}")]
    Failed(String),
}

impl NoAnswer {
    pub(super) fn failed(error: impl fmt::Display) -> Self {
        Self::Failed(error.to_string())
    }
}

/// Asks for IPv4 and IPv6 addresses at the same time. Addresses of one kind are enough, and then the
/// answer about the other kind has a little time left: some servers never give one.
pub(super) async fn ask(server: SocketAddr, name: &str) -> Answer {
    let v4 = pin!(ask_for(server, name, TYPE::A));
    let v6 = pin!(ask_for(server, name, TYPE::AAAA));
    let (first, other) = future::select(v4, v6).await.factor_first();
    let other = match &first {
        Ok(found) if !found.is_empty() => {
            time::timeout(ASK_AGAIN, other).await.unwrap_or(Ok(Vec::new()))
        }
        _ => other.await,
    };
    match (first, other) {
        (Ok(mut first), Ok(other)) => {
            first.extend(other);
            first.sort_by_key(IpAddr::is_ipv6);
            Ok(first)
        }
        (Ok(found), Err(_)) | (Err(_), Ok(found)) if !found.is_empty() => Ok(found),
        (Err(reason), _) | (_, Err(reason)) => Err(reason),
    }
}

async fn ask_for(server: SocketAddr, name: &str, kind: TYPE) -> Answer {
    let question = Query::new(name, kind)?;
    let exchange = async {
        match question.over_udp(server).await? {
            Some(answer) => Ok(answer),
            None => question.over_tcp(server).await,
        }
    };
    exchange.await.unwrap_or_else(|error: io::Error| Err(NoAnswer::failed(error)))
}

/// A question, and its bytes.
struct Query {
    id: u16,
    bytes: Vec<u8>,
    name: String,
    kind: TYPE,
}

impl Query {
    fn new(name: &str, kind: TYPE) -> Result<Self, NoAnswer> {
        let mut id = [0; 2];
        getrandom::fill(&mut id).map_err(NoAnswer::failed)?;
        let id = u16::from_ne_bytes(id);
        let mut packet = Packet::new_query(id);
        packet.set_flags(PacketFlag::RECURSION_DESIRED);
        let qname = Name::new(name).map_err(NoAnswer::failed)?;
        packet.questions.push(Question::new(qname, kind.into(), CLASS::IN.into(), false));
        let bytes = packet.build_bytes_vec().map_err(NoAnswer::failed)?;
        Ok(Self { id, bytes, name: name.to_owned(), kind })
    }

    /// `None`: the answer is too long for a datagram. Repeats the question until there is an
    /// answer; the caller has a deadline.
    async fn over_udp(&self, server: SocketAddr) -> io::Result<Option<Answer>> {
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
                        return Ok(Some(answer_of(&packet)));
                    }
                }
            }
        }
    }

    async fn over_tcp(&self, server: SocketAddr) -> io::Result<Answer> {
        let mut stream = TcpStream::connect(server).await?;
        let length = u16::try_from(self.bytes.len()).expect("a question is short");
        let mut framed = length.to_be_bytes().to_vec();
        framed.extend_from_slice(&self.bytes);
        stream.write_all(&framed).await?;
        let length = stream.read_u16().await?;
        let mut message = vec![0; length.into()];
        stream.read_exact(&mut message).await?;
        let packet = self.read(&message).ok_or(io::ErrorKind::InvalidData)?;
        Ok(answer_of(&packet))
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

/// Every address in the answer, even of another name: each of them is checked later.
fn answer_of(packet: &Packet<'_>) -> Answer {
    let address = |record: &ResourceRecord<'_>| match &record.rdata {
        RData::A(record) => Some(IpAddr::V4(Ipv4Addr::from(record.address))),
        RData::AAAA(record) => Some(IpAddr::V6(Ipv6Addr::from(record.address))),
        _ => None,
    };
    match packet.rcode() {
        RCODE::NoError => Ok(packet.answers.iter().filter_map(address).collect()),
        RCODE::NameError => Err(NoAnswer::NoSuchName),
        other => Err(NoAnswer::Failed(format!("the name server answered {other:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use simple_dns::rdata::A;

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
        assert_eq!(answer_of(&packet).unwrap(), [IpAddr::from([10, 0, 0, 1])]);
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
                let _ = answer_of(&packet);
            }
        }
    }
}

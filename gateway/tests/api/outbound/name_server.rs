//! A name server with the answers of a test.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};

use simple_dns::{
    CLASS, Packet, PacketFlag, QTYPE, RCODE, ResourceRecord, TYPE,
    rdata::{A, AAAA, RData},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, UdpSocket},
};

/// Answers over UDP. Ends with the test's runtime.
pub(crate) struct NameServer {
    address: SocketAddr,
    asked: Arc<AtomicU32>,
}

impl NameServer {
    /// `addresses` gets the name and the number of earlier queries for it.
    pub(crate) async fn start(
        addresses: impl Fn(&str, u32) -> Vec<IpAddr> + Send + 'static,
    ) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let asked = Arc::<AtomicU32>::default();
        let counter = Arc::clone(&asked);
        tokio::spawn(async move {
            let mut datagram = [0; 512];
            loop {
                let (length, from) = socket.recv_from(&mut datagram).await.unwrap();
                let question = Packet::parse(&datagram[..length]).unwrap();
                let kind = question.questions[0].qtype;
                // The resolver asks for both kinds of addresses at once; one of them counts.
                let before = match kind {
                    QTYPE::TYPE(TYPE::A) => counter.fetch_add(1, Relaxed),
                    _ => counter.load(Relaxed),
                };
                let name = question.questions[0].qname.to_string();
                let answer = answer(question, &addresses(&name, before));
                socket.send_to(&answer, from).await.unwrap();
            }
        });
        Self { address, asked }
    }

    /// Never answers for one name, and has this address for every other.
    pub(crate) async fn start_silent(silent: &'static str, address: IpAddr) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let at = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let mut datagram = [0; 512];
            loop {
                let (length, from) = socket.recv_from(&mut datagram).await.unwrap();
                let question = Packet::parse(&datagram[..length]).unwrap();
                if question.questions[0].qname.to_string() != silent {
                    socket.send_to(&answer(question, &[address]), from).await.unwrap();
                }
            }
        });
        Self { address: at, asked: Arc::default() }
    }

    /// Has more addresses than a datagram holds, and returns them over TCP.
    pub(crate) async fn over_tcp(addresses: Vec<IpAddr>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let socket = UdpSocket::bind(address).await.unwrap();
        tokio::spawn(async move {
            let mut datagram = [0; 512];
            loop {
                let (length, from) = socket.recv_from(&mut datagram).await.unwrap();
                let mut packet = Packet::parse(&datagram[..length]).unwrap().into_reply();
                packet.set_flags(PacketFlag::RESPONSE | PacketFlag::TRUNCATION);
                socket.send_to(&packet.build_bytes_vec().unwrap(), from).await.unwrap();
            }
        });
        let asked = Arc::<AtomicU32>::default();
        let counter = Arc::clone(&asked);
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                counter.fetch_add(1, Relaxed);
                let mut question = vec![0; stream.read_u16().await.unwrap().into()];
                stream.read_exact(&mut question).await.unwrap();
                let answer = answer(Packet::parse(&question).unwrap(), &addresses);
                stream.write_u16(u16::try_from(answer.len()).unwrap()).await.unwrap();
                stream.write_all(&answer).await.unwrap();
            }
        });
        Self { address, asked }
    }

    /// The setting that makes a gateway use this server.
    pub(crate) fn setting(&self) -> String {
        format!("outbound.resolver={}", self.address)
    }

    /// The number of queries: those for IPv4 addresses, or all over TCP.
    pub(crate) fn asked(&self) -> u32 {
        self.asked.load(Relaxed)
    }
}

fn answer(question: Packet<'_>, addresses: &[IpAddr]) -> Vec<u8> {
    let mut packet = question.into_reply();
    packet.set_flags(PacketFlag::RESPONSE);
    let asked = packet.questions[0].clone();
    if addresses.is_empty() {
        *packet.rcode_mut() = RCODE::NameError;
    }
    for address in addresses {
        let data = match (address, asked.qtype) {
            (IpAddr::V4(ip), QTYPE::TYPE(TYPE::A)) => RData::A(A { address: u32::from(*ip) }),
            (IpAddr::V6(ip), QTYPE::TYPE(TYPE::AAAA)) => {
                RData::AAAA(AAAA { address: u128::from(*ip) })
            }
            _ => continue,
        };
        packet.answers.push(ResourceRecord::new(asked.qname.clone(), CLASS::IN, 0, data));
    }
    packet.build_bytes_vec().unwrap()
}

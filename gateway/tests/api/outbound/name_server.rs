//! A name server that says what a test wants.

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
use tokio::net::UdpSocket;

/// Answers over UDP. Ends with the test's runtime.
pub(super) struct NameServer {
    address: SocketAddr,
    asked: Arc<AtomicU32>,
}

impl NameServer {
    /// `addresses` is told the name, and how often that was asked for before.
    pub(super) async fn start(
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
                // Both kinds are asked for at once; one of them counts.
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

    /// The setting that makes a gateway ask this server.
    pub(super) fn setting(&self) -> String {
        format!("outbound.resolver={}", self.address)
    }

    /// Questions for IPv4 addresses.
    pub(super) fn asked(&self) -> u32 {
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

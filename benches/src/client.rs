//! A blocking HTTP/1.1 client that measures the time of single requests.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use crate::http1;

/// The slowest request compiles a large guest, which takes tens of seconds.
const PATIENCE: Duration = Duration::from_mins(3);

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its status line and headers.
    pub head: Vec<u8>,
    /// Its whole body.
    pub body: Vec<u8>,
    /// Time from the first byte of the request to the first byte of the answer.
    pub first_byte: Duration,
}

impl Answer {
    /// The body as text, for messages.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The tier from which the invocation started, from the header `server-timing`.
    #[must_use]
    pub fn tier(&self) -> Option<String> {
        self.timing("tier;desc=")
    }

    /// The time that the request spent in the gateway, from the header `server-timing`.
    #[must_use]
    pub fn inside(&self) -> Option<Duration> {
        let millis: f64 = self.timing("total;dur=")?.parse().ok()?;
        Some(Duration::from_secs_f64(millis / 1e3))
    }

    /// The value after `metric` in `server-timing`.
    fn timing(&self, metric: &str) -> Option<String> {
        let head = String::from_utf8_lossy(&self.head).to_ascii_lowercase();
        let timing = head.lines().find_map(|line| line.strip_prefix("server-timing:"))?;
        let value = timing.split(',').find_map(|one| one.trim().strip_prefix(metric))?;
        Some(value.trim_matches('"').to_owned())
    }
}

/// One connection that is kept open.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    addr: SocketAddr,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// When no server listens there.
    pub fn connect(addr: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&addr, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream, addr })
    }

    /// Sends a request without a body.
    ///
    /// # Errors
    /// When the connection breaks or the answer cannot be read.
    pub fn get(&mut self, path: &str) -> io::Result<Answer> {
        let request = get_request(self.addr, path);
        self.exchange(&[&request])
    }

    /// Sends a request with this body and these header lines. Each line ends with `\r\n`.
    ///
    /// # Errors
    /// When the connection breaks or the answer cannot be read.
    pub fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &str,
        body: &[u8],
    ) -> io::Result<Answer> {
        let (addr, length) = (self.addr, body.len());
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {addr}\r\ncontent-length: {length}\r\n{headers}\r\n"
        );
        self.exchange(&[head.as_bytes(), body])
    }

    /// Sends these bytes and reads one answer.
    fn exchange(&mut self, request: &[&[u8]]) -> io::Result<Answer> {
        let started = Instant::now();
        for part in request {
            self.stream.write_all(part)?;
        }
        let mut buffer = vec![0; 64 << 10];
        let mut filled = 0;
        let mut first_byte = None;
        loop {
            if filled == buffer.len() {
                buffer.resize(2 * filled, 0);
            }
            let read = self.stream.read(&mut buffer[filled..])?;
            let first_byte = *first_byte.get_or_insert_with(|| started.elapsed());
            if read == 0 {
                return Err(io::Error::other("the server closed the connection"));
            }
            filled += read;
            let arrived = &buffer[..filled];
            if let Some(extent) = http1::response(arrived).map_err(io::Error::other)? {
                let body = http1::body(arrived, extent);
                let head = arrived[..extent.head].to_vec();
                return Ok(Answer { status: extent.status, head, body, first_byte });
            }
        }
    }
}

/// A whole request without a body.
#[must_use]
pub fn get_request(addr: SocketAddr, path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: {addr}\r\n\r\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tier_and_time_are_read_from_the_head() {
        let answer = |head: &str| {
            let head = head.as_bytes().to_vec();
            Answer { status: 200, head, body: Vec::new(), first_byte: Duration::ZERO }
        };
        let cold =
            answer("HTTP/1.1 200 OK\r\nServer-Timing: tier;desc=cold, total;dur=1.5\r\n\r\n");
        assert_eq!(cold.tier().as_deref(), Some("cold"));
        assert_eq!(cold.inside(), Some(Duration::from_micros(1_500)));
        let quoted = answer("HTTP/1.1 200 OK\r\nserver-timing: tier;desc=\"warm\"\r\n\r\n");
        assert_eq!((quoted.tier().as_deref(), quoted.inside()), (Some("warm"), None));
        assert_eq!(answer("HTTP/1.1 200 OK\r\n\r\n").tier(), None);
    }
}

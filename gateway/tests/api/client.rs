//! An HTTP client that hides nothing: one connection a request unless a test wants otherwise.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, request};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Frame, Incoming},
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::{
    net::{TcpSocket, TcpStream},
    sync::mpsc,
    task::AbortHandle,
    time,
};

/// How long anything may take: only a test that would hang gets this far. Compiling a JavaScript
/// engine takes 15 seconds of CPU time, and ten times that where two other programs want both
/// cores, because the compiler steps back behind them.
pub(crate) const PATIENCE: Duration = Duration::from_secs(400);
/// Pause between two looks at a condition.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

type Body = UnsyncBoxBody<Bytes, io::Error>;
/// Why an exchange did not come to a good end.
pub(crate) type Broken = Box<dyn std::error::Error + Send + Sync>;

/// Waits until `look` finds what it looks for.
pub(crate) async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = time::Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(time::Instant::now() < deadline, "waited {PATIENCE:?} in vain: {what}");
        time::sleep(LOOK_AGAIN).await;
    }
}

/// A request that is being put together.
pub(crate) struct Call {
    address: SocketAddr,
    from: Option<IpAddr>,
    request: request::Builder,
    body: Body,
}

impl Call {
    pub(crate) fn new(address: SocketAddr, method: Method, target: &str) -> Self {
        let request = Request::builder().method(method).uri(target);
        Self { address, from: None, request, body: whole(Bytes::new()) }
    }

    /// Another address of this machine to send it from.
    pub(crate) fn from(mut self, address: IpAddr) -> Self {
        self.from = Some(address);
        self
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.request = self.request.header(name, value);
        self
    }

    pub(crate) fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = whole(body.into());
        self
    }

    pub(crate) fn json(self, json: &Value) -> Self {
        self.header("content-type", "application/json").body(json.to_string())
    }

    /// A body that is sent piece by piece. It ends when the sender is dropped.
    pub(crate) fn pieces(mut self) -> (mpsc::Sender<Bytes>, Self) {
        let (sender, receiver) = mpsc::channel::<Bytes>(1);
        let pieces = futures_util::stream::unfold(receiver, |mut receiver| async move {
            let piece = receiver.recv().await?;
            Some((Ok(Frame::data(piece)), receiver))
        });
        self.body = StreamBody::new(pieces).boxed_unsync();
        (sender, self)
    }

    /// The whole answer.
    pub(crate) async fn send(self) -> Answer {
        self.try_send().await.unwrap_or_else(|error| panic!("no whole answer: {error:?}"))
    }

    /// The whole answer, unless the connection breaks before its end.
    pub(crate) async fn try_send(self) -> Result<Answer, Broken> {
        let mut stream = self.try_open().await?;
        let body = stream.try_rest().await?;
        let Stream { status, headers, .. } = stream;
        Ok(Answer::new(status, headers, body))
    }

    /// The answer's head; its body comes piece by piece.
    pub(crate) async fn open(self) -> Stream {
        self.try_open().await.unwrap_or_else(|error| panic!("no answer: {error:?}"))
    }

    async fn try_open(self) -> Result<Stream, Broken> {
        let mut connection = Connection::try_open(self.address, self.from).await?;
        let response = patiently(connection.sender.send_request(self.request()?)).await??;
        Ok(Stream::new(response, connection.task))
    }

    fn request(self) -> Result<Request<Body>, Broken> {
        let mut request = self.request.body(self.body)?;
        if !request.headers().contains_key("host") {
            request.headers_mut().insert("host", self.address.to_string().parse()?);
        }
        Ok(request)
    }
}

/// An HTTP/1.1 connection that is kept for several requests. Closed when dropped.
pub(crate) struct Connection {
    address: SocketAddr,
    sender: http1::SendRequest<Body>,
    task: Task,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> Self {
        Self::try_open(address, None).await.unwrap()
    }

    async fn try_open(address: SocketAddr, from: Option<IpAddr>) -> Result<Self, Broken> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        if let Some(from) = from {
            socket.bind(SocketAddr::new(from, 0))?;
        }
        let socket = patiently(socket.connect(address)).await??;
        socket.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
        let task = Task::new(async move { drop(connection.await) });
        Ok(Self { address, sender, task })
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    pub(crate) async fn get(&mut self, target: &str) -> Answer {
        let call = Call::new(self.address, Method::GET, target);
        patiently(self.sender.ready()).await.unwrap().unwrap();
        let sent = self.sender.send_request(call.request().unwrap());
        whole_answer(patiently(sent).await.unwrap().unwrap()).await
    }
}

/// An HTTP/2 connection, begun with prior knowledge. Closed when dropped.
pub(crate) struct Http2 {
    sender: http2::SendRequest<Body>,
    _task: Task,
}

impl Http2 {
    pub(crate) async fn open(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).await.unwrap();
        let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(socket));
        let (sender, connection) = handshake.await.unwrap();
        Self { sender, _task: Task::new(async move { drop(connection.await) }) }
    }

    /// Returns when the gateway has closed it.
    pub(crate) async fn closed(&self) {
        eventually("it is closed", async || self.is_closed().then_some(())).await;
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// `uri` must be absolute: its authority takes the place of a host.
    pub(crate) async fn post(&self, uri: &str, body: impl Into<Bytes>) -> Answer {
        let request = Request::post(uri).body(whole(body.into())).unwrap();
        let mut sender = self.sender.clone();
        patiently(sender.ready()).await.unwrap().unwrap();
        let response = patiently(sender.send_request(request)).await.unwrap().unwrap();
        whole_answer(response).await
    }

    pub(crate) async fn open_stream(&self, uri: &str) -> Response<Incoming> {
        self.try_open_stream(uri).await.unwrap()
    }

    /// The head of an answer, unless the stream is reset before it has arrived.
    pub(crate) async fn try_open_stream(&self, uri: &str) -> Result<Response<Incoming>, Broken> {
        let request = Request::get(uri).body(whole(Bytes::new()))?;
        let mut sender = self.sender.clone();
        patiently(sender.ready()).await??;
        Ok(patiently(sender.send_request(request)).await??)
    }
}

async fn whole_answer(response: Response<Incoming>) -> Answer {
    let (head, body) = response.into_parts();
    let body = patiently(body.collect()).await.unwrap().unwrap().to_bytes();
    Answer::new(head.status, head.headers, body)
}

/// An answer whose body has not ended. Dropping it closes the connection.
pub(crate) struct Stream {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    body: Incoming,
    _connection: Task,
}

impl Stream {
    fn new(response: Response<Incoming>, connection: Task) -> Self {
        let (head, body) = response.into_parts();
        Self { status: head.status, headers: head.headers, body, _connection: connection }
    }

    /// Bytes as they come, until there are `count` of them.
    pub(crate) async fn read(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while bytes.len() < count {
            let frame = patiently(self.body.frame()).await.unwrap();
            let frame = frame.expect("the body ended early").unwrap();
            bytes.extend_from_slice(&frame.into_data().unwrap_or_default());
        }
        bytes
    }

    /// What is left of the body.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        self.try_rest().await.unwrap().to_vec()
    }

    /// What is left of the body, unless it breaks off.
    pub(crate) async fn try_rest(&mut self) -> Result<Bytes, Broken> {
        Ok(patiently((&mut self.body).collect()).await??.to_bytes())
    }
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
    json: Option<Value>,
}

impl Answer {
    fn new(status: StatusCode, headers: HeaderMap, body: Bytes) -> Self {
        let json = serde_json::from_slice(&body).ok();
        Self { status, headers, body, json }
    }

    pub(crate) fn status(&self) -> u16 {
        self.status.as_u16()
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.body
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The value of a header, which must not be there twice.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        let value = values.next().map(|value| value.to_str().unwrap());
        assert!(values.next().is_none(), "{name} is there twice");
        value
    }

    pub(crate) fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    pub(crate) fn json(&self) -> &Value {
        self.json.as_ref().unwrap_or_else(|| panic!("no JSON: {self:?}"))
    }

    /// The status and the body of a plain answer.
    #[track_caller]
    pub(crate) fn plain(&self) -> (u16, &str) {
        (self.status(), self.text())
    }

    /// The status and the short name of a problem, after a look at everything that each has.
    #[track_caller]
    pub(crate) fn problem(&self) -> (u16, &str) {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let problem = self.json();
        let text =
            |name: &str| problem[name].as_str().unwrap_or_else(|| panic!("{name}: {self:?}"));
        assert!(!text("title").is_empty(), "{self:?}");
        assert_eq!(problem["status"], self.status(), "{self:?}");
        assert_eq!(Some(text("request_id")), self.header("mayfly-request-id"), "{self:?}");
        assert!(!text("phase").is_empty(), "{self:?}");
        assert!(["caller", "function", "platform"].contains(&text("fault")), "{self:?}");
        assert_eq!(Some(text("fault")), self.header("mayfly-outcome"), "{self:?}");
        let retry_after = self.header("retry-after").map(|seconds| seconds.parse::<u64>().unwrap());
        assert_eq!(problem["retry_after_s"].as_u64(), retry_after, "{self:?}");
        let slug = text("type").strip_prefix("urn:mayfly:problem:");
        (self.status(), slug.unwrap_or_else(|| panic!("{self:?}")))
    }

    /// What a problem says about this one case.
    #[track_caller]
    pub(crate) fn detail(&self) -> &str {
        self.json()["detail"].as_str().unwrap_or_else(|| panic!("no detail: {self:?}"))
    }
}

/// A task that ends with its owner.
struct Task(AbortHandle);

impl Task {
    fn new(work: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(work).abort_handle())
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn patiently<T>(future: impl Future<Output = T>) -> Result<T, time::error::Elapsed> {
    time::timeout(PATIENCE, future).await
}

fn whole(body: Bytes) -> Body {
    Full::new(body).map_err(|never| match never {}).boxed_unsync()
}

//! An HTTP client that hides nothing: one connection for each request unless a test asks otherwise.

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

/// The deadline of every wait. Only a test that would hang reaches it. Compiling a JavaScript
/// engine takes 15 seconds of CPU time, and ten times that on a machine whose cores are busy,
/// because compile workers run at a low priority.
pub(crate) const DEADLINE: Duration = Duration::from_secs(400);
/// The pause between two checks of a condition.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

type RequestBody = UnsyncBoxBody<Bytes, io::Error>;
/// The reason why a request got no complete response.
pub(crate) type ExchangeError = Box<dyn std::error::Error + Send + Sync>;

/// Waits until `look` returns a value.
pub(crate) async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = time::Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(time::Instant::now() < deadline, "{what}: not within {DEADLINE:?}");
        time::sleep(POLL_INTERVAL).await;
    }
}

/// A request under construction.
pub(crate) struct TestRequest {
    address: SocketAddr,
    from: Option<IpAddr>,
    request: request::Builder,
    body: RequestBody,
}

impl TestRequest {
    pub(crate) fn new(address: SocketAddr, method: Method, target: &str) -> Self {
        let request = Request::builder().method(method).uri(target);
        Self { address, from: None, request, body: full_body(Bytes::new()) }
    }

    /// Sends the request from another address of this machine.
    pub(crate) fn from(mut self, address: IpAddr) -> Self {
        self.from = Some(address);
        self
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.request = self.request.header(name, value);
        self
    }

    pub(crate) fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = full_body(body.into());
        self
    }

    pub(crate) fn json(self, json: &Value) -> Self {
        self.header("content-type", "application/json").body(json.to_string())
    }

    /// A body that is sent in pieces. It ends when the sender is dropped.
    pub(crate) fn pieces(mut self) -> (mpsc::Sender<Bytes>, Self) {
        let (sender, receiver) = mpsc::channel::<Bytes>(1);
        let pieces = futures_util::stream::unfold(receiver, |mut receiver| async move {
            let piece = receiver.recv().await?;
            Some((Ok(Frame::data(piece)), receiver))
        });
        self.body = StreamBody::new(pieces).boxed_unsync();
        (sender, self)
    }

    /// Sends the request and returns the whole response.
    pub(crate) async fn send(self) -> FullResponse {
        self.try_send().await.unwrap_or_else(|error| panic!("no complete response: {error:?}"))
    }

    /// The same, unless the connection breaks before the end of the response.
    pub(crate) async fn try_send(self) -> Result<FullResponse, ExchangeError> {
        let mut stream = self.try_open().await?;
        let body = stream.try_rest().await?;
        let StreamingResponse { status, headers, .. } = stream;
        Ok(FullResponse::new(status, headers, body))
    }

    /// Sends the request and returns the head of the response. Its body is read in pieces.
    pub(crate) async fn open(self) -> StreamingResponse {
        self.try_open().await.unwrap_or_else(|error| panic!("no response: {error:?}"))
    }

    async fn try_open(self) -> Result<StreamingResponse, ExchangeError> {
        let mut connection = Http1::try_open(self.address, self.from).await?;
        let response = within_deadline(connection.sender.send_request(self.request()?)).await??;
        Ok(StreamingResponse::new(response, connection.task))
    }

    fn request(self) -> Result<Request<RequestBody>, ExchangeError> {
        let mut request = self.request.body(self.body)?;
        if !request.headers().contains_key("host") {
            request.headers_mut().insert("host", self.address.to_string().parse()?);
        }
        Ok(request)
    }
}

/// An HTTP/1.1 connection for several requests. Closed when dropped.
pub(crate) struct Http1 {
    address: SocketAddr,
    sender: http1::SendRequest<RequestBody>,
    task: AbortOnDrop,
}

impl Http1 {
    pub(crate) async fn open(address: SocketAddr) -> Self {
        Self::try_open(address, None).await.unwrap()
    }

    async fn try_open(address: SocketAddr, from: Option<IpAddr>) -> Result<Self, ExchangeError> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        if let Some(from) = from {
            socket.bind(SocketAddr::new(from, 0))?;
        }
        let socket = within_deadline(socket.connect(address)).await??;
        socket.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
        let task = AbortOnDrop::new(async move { drop(connection.await) });
        Ok(Self { address, sender, task })
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    pub(crate) async fn get(&mut self, target: &str) -> FullResponse {
        let call = TestRequest::new(self.address, Method::GET, target);
        within_deadline(self.sender.ready()).await.unwrap().unwrap();
        let sent = self.sender.send_request(call.request().unwrap());
        read_to_end(within_deadline(sent).await.unwrap().unwrap()).await
    }
}

/// An HTTP/2 connection with prior knowledge. Closed when dropped.
pub(crate) struct Http2 {
    sender: http2::SendRequest<RequestBody>,
    _task: AbortOnDrop,
}

impl Http2 {
    pub(crate) async fn open(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).await.unwrap();
        let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(socket));
        let (sender, connection) = handshake.await.unwrap();
        Self { sender, _task: AbortOnDrop::new(async move { drop(connection.await) }) }
    }

    /// Waits until the gateway has closed the connection.
    pub(crate) async fn closed(&self) {
        eventually("the connection is closed", async || self.is_closed().then_some(())).await;
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// `uri` must be absolute: HTTP/2 takes the authority from it.
    pub(crate) async fn post(&self, uri: &str, body: impl Into<Bytes>) -> FullResponse {
        let request = Request::post(uri).body(full_body(body.into())).unwrap();
        let mut sender = self.sender.clone();
        within_deadline(sender.ready()).await.unwrap().unwrap();
        let response = within_deadline(sender.send_request(request)).await.unwrap().unwrap();
        read_to_end(response).await
    }

    /// Sends a request and returns the head of the response.
    pub(crate) async fn open_request(
        &self,
        request: request::Builder,
        body: impl Into<Bytes>,
    ) -> Response<Incoming> {
        let request = request.body(full_body(body.into())).unwrap();
        let mut sender = self.sender.clone();
        within_deadline(sender.ready()).await.unwrap().unwrap();
        within_deadline(sender.send_request(request)).await.unwrap().unwrap()
    }

    /// Sends a request and returns the whole response.
    pub(crate) async fn send(
        &self,
        request: request::Builder,
        body: impl Into<Bytes>,
    ) -> FullResponse {
        read_to_end(self.open_request(request, body).await).await
    }

    pub(crate) async fn open_stream(&self, uri: &str) -> Response<Incoming> {
        self.try_open_stream(uri).await.unwrap()
    }

    /// The head of a response, unless the stream is reset first.
    pub(crate) async fn try_open_stream(
        &self,
        uri: &str,
    ) -> Result<Response<Incoming>, ExchangeError> {
        let request = Request::get(uri).body(full_body(Bytes::new()))?;
        let mut sender = self.sender.clone();
        within_deadline(sender.ready()).await??;
        Ok(within_deadline(sender.send_request(request)).await??)
    }
}

async fn read_to_end(response: Response<Incoming>) -> FullResponse {
    let (head, body) = response.into_parts();
    let body = within_deadline(body.collect()).await.unwrap().unwrap().to_bytes();
    FullResponse::new(head.status, head.headers, body)
}

/// A response whose body has not ended. Dropping it closes the connection.
pub(crate) struct StreamingResponse {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    body: Incoming,
    _connection: AbortOnDrop,
}

impl StreamingResponse {
    fn new(response: Response<Incoming>, connection: AbortOnDrop) -> Self {
        let (head, body) = response.into_parts();
        Self { status: head.status, headers: head.headers, body, _connection: connection }
    }

    /// Reads until there are `count` bytes.
    pub(crate) async fn read(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while bytes.len() < count {
            let frame = within_deadline(self.body.frame()).await.unwrap();
            let frame = frame.expect("the body ended early").unwrap();
            bytes.extend_from_slice(&frame.into_data().unwrap_or_default());
        }
        bytes
    }

    /// The rest of the body.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        self.try_rest().await.unwrap().to_vec()
    }

    /// The rest of the body, unless the response is aborted.
    pub(crate) async fn try_rest(&mut self) -> Result<Bytes, ExchangeError> {
        Ok(within_deadline((&mut self.body).collect()).await??.to_bytes())
    }
}

/// A response with its whole body.
#[derive(Debug)]
pub(crate) struct FullResponse {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
    json: Option<Value>,
}

impl FullResponse {
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

    /// The value of a header, which must not be repeated.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        let value = values.next().map(|value| value.to_str().unwrap());
        assert!(values.next().is_none(), "{name} is repeated");
        value
    }

    pub(crate) fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    pub(crate) fn json(&self) -> &Value {
        self.json.as_ref().unwrap_or_else(|| panic!("not JSON: {self:?}"))
    }

    /// The status and the body as text.
    #[track_caller]
    pub(crate) fn plain(&self) -> (u16, &str) {
        (self.status(), self.text())
    }

    /// The status and the slug of a problem. Checks the fields that every problem has.
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

    /// The detail of a problem.
    #[track_caller]
    pub(crate) fn detail(&self) -> &str {
        self.json()["detail"].as_str().unwrap_or_else(|| panic!("without a detail: {self:?}"))
    }
}

/// A task that is aborted when this is dropped.
struct AbortOnDrop(AbortHandle);

impl AbortOnDrop {
    fn new(work: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(work).abort_handle())
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn within_deadline<T>(future: impl Future<Output = T>) -> Result<T, time::error::Elapsed> {
    time::timeout(DEADLINE, future).await
}

fn full_body(body: Bytes) -> RequestBody {
    Full::new(body).map_err(|never| match never {}).boxed_unsync()
}

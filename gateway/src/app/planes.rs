//! The two planes: their sockets, their listeners, and their drain.

use std::{
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    sync::watch,
    task::{JoinError, JoinHandle},
    time,
};

use crate::{
    app::{descriptors, runtimes::Runtimes, systemd::Sockets},
    config::{CONTROL_SOCKET, Config, TlsFiles, TrustedProxies},
    server::{
        ConnectionMetrics, HostCertificates, ListenerConfig, ListenerControl, LocalSocket, Server,
        Tls,
    },
};

/// The running planes: for each, the control of its listener, and the task that ends with it.
pub(crate) struct Planes {
    draining: Arc<AtomicBool>,
    data: (watch::Sender<ListenerControl>, JoinHandle<()>),
    control: (watch::Sender<ListenerControl>, JoinHandle<()>),
    /// What empties the queue of calls.
    worker: (watch::Sender<bool>, JoinHandle<()>),
}

impl Planes {
    pub(crate) fn new(
        draining: Arc<AtomicBool>,
        data: (watch::Sender<ListenerControl>, JoinHandle<()>),
        control: (watch::Sender<ListenerControl>, JoinHandle<()>),
        worker: (watch::Sender<bool>, JoinHandle<()>),
    ) -> Self {
        Self { draining, data, control, worker }
    }

    /// Tells clients to reconnect elsewhere for the time of `pause`, then waits until the requests
    /// in flight have ended.
    pub(crate) async fn drain(self, pause: Duration) -> Result<(), JoinError> {
        self.draining.store(true, Relaxed);
        time::sleep(pause).await;
        // Queued calls get the same time as those that clients wait for.
        let (stop, worker) = self.worker;
        stop.send_replace(true);
        let (data, task) = self.data;
        ListenerControl::stop(&data);
        task.await?;
        worker.await?;
        // The control plane stops last: probes see that the gateway is not ready, and metrics show
        // how far the drain is.
        let (control, task) = self.control;
        ListenerControl::stop(&control);
        task.await?;
        Ok(())
    }
}

/// The configuration of both listeners, before they are bound.
pub(crate) struct PlaneListeners {
    data: ListenerConfig,
    control: ListenerConfig,
    /// Whether responses of the data plane tell clients to close their connections.
    draining: Arc<AtomicBool>,
}

impl PlaneListeners {
    /// Owners' certificates are of the data plane alone.
    pub(crate) fn new(
        config: &Config,
        hosts: &HostCertificates,
        metrics: ConnectionMetrics,
    ) -> anyhow::Result<Self> {
        let server = &config.server;
        let draining = Arc::new(AtomicBool::new(false));
        let tls = |files: Option<TlsFiles>, hosts: HostCertificates| {
            files.map(|files| Tls::load(files, hosts)).transpose()
        };
        // A quarter is left for files, outbound requests and compilers.
        let descriptors = descriptors::raise();
        Ok(Self {
            data: ListenerConfig {
                plane: "data",
                connections: server.listener.connections.min(descriptors / 2),
                proxy_protocol: server.proxies.proxy_protocol,
                trusted: server.proxies.trusted.clone(),
                tls: tls(server.tls.data(), hosts.clone())?.map(Arc::new),
                metrics: metrics.clone(),
                draining: Arc::clone(&draining),
                settings: server.listener.clone(),
            },
            control: ListenerConfig {
                plane: "control",
                connections: server.listener.connections.min(descriptors / 4),
                proxy_protocol: false,
                trusted: TrustedProxies::default(),
                tls: tls(server.tls.control(), HostCertificates::default())?.map(Arc::new),
                metrics,
                // The control plane answers until the end of the drain.
                draining: Arc::default(),
                settings: server.listener.clone(),
            },
            draining,
        })
    }

    /// The certificates that a reload reads again.
    pub(crate) fn certificates(&self) -> Vec<Arc<Tls>> {
        [&self.data.tls, &self.control.tls].into_iter().flatten().cloned().collect()
    }

    /// Makes responses of the data plane tell clients to close their connections, once it is true.
    pub(crate) fn draining(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.draining)
    }

    pub(crate) async fn bind(
        self,
        config: &Config,
        sockets: Sockets,
        runtimes: &Runtimes,
    ) -> anyhow::Result<(Server, Server)> {
        let bind = async |addr, socket: Option<TcpListener>, listening| match socket {
            Some(socket) => Server::inherit(socket, listening),
            None => Server::bind(addr, listening).await,
        };
        // Within the runtime that serves this listener.
        let data: SocketAddr = config.listen;
        let data = runtimes
            .data()
            .spawn(async move { bind(data, sockets.data, self.data).await })
            .await??;
        let control = bind(config.admin_listen, sockets.control, self.control).await?;
        Ok((data, control.with_local(local_socket(config))))
    }
}

/// The control plane's Unix socket. Where it cannot be had, the command line needs the token.
fn local_socket(config: &Config) -> Option<LocalSocket> {
    let path = config.data_dir.join(CONTROL_SOCKET);
    let socket = LocalSocket::bind(&path);
    if let Err(error) = &socket {
        tracing::warn!(path = %path.display(), %error, "there is no socket for the command line");
    }
    socket.ok()
}

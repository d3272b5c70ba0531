//! Both planes from their sockets to their end.

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
    config::{Config, TlsFiles, TrustedProxies},
    server::{ConnectionMetrics, ListenerControl, Listening, Server, Tls},
};

/// Both planes while they serve: what stops each, and the task that ends when it has stopped.
pub(crate) struct Planes {
    leaving: Arc<AtomicBool>,
    data: (watch::Sender<ListenerControl>, JoinHandle<()>),
    control: (watch::Sender<ListenerControl>, JoinHandle<()>),
}

impl Planes {
    pub(crate) fn new(
        leaving: Arc<AtomicBool>,
        data: (watch::Sender<ListenerControl>, JoinHandle<()>),
        control: (watch::Sender<ListenerControl>, JoinHandle<()>),
    ) -> Self {
        Self { leaving, data, control }
    }

    /// Sends clients away for as long as `pause` takes, then lets requests in flight end.
    pub(crate) async fn end(self, pause: Duration) -> Result<(), JoinError> {
        self.leaving.store(true, Relaxed);
        time::sleep(pause).await;
        // The control plane answers throughout: probes see that we are not ready, and metrics
        // how far the drain is.
        for (orders, task) in [self.data, self.control] {
            ListenerControl::stop(&orders);
            task.await?;
        }
        Ok(())
    }
}

/// Both listeners before they listen.
pub(crate) struct PlaneListeners {
    data: Listening,
    control: Listening,
    /// Whether clients of the data plane should go elsewhere.
    leaving: Arc<AtomicBool>,
}

impl PlaneListeners {
    pub(crate) fn new(config: &Config, metrics: ConnectionMetrics) -> anyhow::Result<Self> {
        let server = &config.server;
        let leaving = Arc::new(AtomicBool::new(false));
        let tls = |files: Option<TlsFiles>| files.map(Tls::load).transpose();
        // The rest is for what answers them: files, outbound requests, compilers.
        let most = descriptors::raise();
        Ok(Self {
            data: Listening {
                plane: "data",
                connections: server.listener.connections.min(most / 2),
                proxy_protocol: server.proxies.proxy_protocol,
                trusted: server.proxies.trusted.clone(),
                tls: tls(server.tls.data())?.map(Arc::new),
                metrics: metrics.clone(),
                leaving: Arc::clone(&leaving),
                config: server.listener.clone(),
            },
            control: Listening {
                plane: "control",
                connections: server.listener.connections.min(most / 4),
                proxy_protocol: false,
                trusted: TrustedProxies::default(),
                tls: tls(server.tls.control())?.map(Arc::new),
                metrics,
                // It answers to the end.
                leaving: Arc::default(),
                config: server.listener.clone(),
            },
            leaving,
        })
    }

    /// Those that may have to be read again.
    pub(crate) fn certificates(&self) -> Vec<Arc<Tls>> {
        [&self.data.tls, &self.control.tls].into_iter().flatten().cloned().collect()
    }

    /// What says that clients of the data plane should go elsewhere.
    pub(crate) fn leaving(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.leaving)
    }

    pub(crate) async fn bind(
        self,
        config: &Config,
        sockets: Sockets,
        threads: &Runtimes,
    ) -> anyhow::Result<(Server, Server)> {
        let bind = async |addr, socket: Option<TcpListener>, listening| match socket {
            Some(socket) => Server::inherit(socket, listening),
            None => Server::bind(addr, listening).await,
        };
        // On the threads that serve what comes that way.
        let data: SocketAddr = config.listen;
        let data = threads
            .data()
            .spawn(async move { bind(data, sockets.data, self.data).await })
            .await??;
        Ok((data, bind(config.admin_listen, sockets.control, self.control).await?))
    }
}

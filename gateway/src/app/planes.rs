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
    server::{ConnectionMetrics, ListenerConfig, ListenerControl, Server, Tls},
};

/// Both planes while they serve: what stops each, and the task that ends when it has stopped.
pub(crate) struct Planes {
    draining: Arc<AtomicBool>,
    data: (watch::Sender<ListenerControl>, JoinHandle<()>),
    control: (watch::Sender<ListenerControl>, JoinHandle<()>),
}

impl Planes {
    pub(crate) fn new(
        draining: Arc<AtomicBool>,
        data: (watch::Sender<ListenerControl>, JoinHandle<()>),
        control: (watch::Sender<ListenerControl>, JoinHandle<()>),
    ) -> Self {
        Self { draining, data, control }
    }

    /// Sends clients away for as long as `pause` takes, then lets requests in flight end.
    pub(crate) async fn end(self, pause: Duration) -> Result<(), JoinError> {
        self.draining.store(true, Relaxed);
        time::sleep(pause).await;
        // The control plane answers throughout: probes see that we are not ready, and metrics
        // how far the drain is.
        for (control, task) in [self.data, self.control] {
            ListenerControl::stop(&control);
            task.await?;
        }
        Ok(())
    }
}

/// Both listeners before they listen.
pub(crate) struct PlaneListeners {
    data: ListenerConfig,
    control: ListenerConfig,
    /// Whether clients of the data plane should go elsewhere.
    draining: Arc<AtomicBool>,
}

impl PlaneListeners {
    pub(crate) fn new(config: &Config, metrics: ConnectionMetrics) -> anyhow::Result<Self> {
        let server = &config.server;
        let draining = Arc::new(AtomicBool::new(false));
        let tls = |files: Option<TlsFiles>| files.map(Tls::load).transpose();
        // The rest is for what answers them: files, outbound requests, compilers.
        let most = descriptors::raise();
        Ok(Self {
            data: ListenerConfig {
                plane: "data",
                connections: server.listener.connections.min(most / 2),
                proxy_protocol: server.proxies.proxy_protocol,
                trusted: server.proxies.trusted.clone(),
                tls: tls(server.tls.data())?.map(Arc::new),
                metrics: metrics.clone(),
                draining: Arc::clone(&draining),
                settings: server.listener.clone(),
            },
            control: ListenerConfig {
                plane: "control",
                connections: server.listener.connections.min(most / 4),
                proxy_protocol: false,
                trusted: TrustedProxies::default(),
                tls: tls(server.tls.control())?.map(Arc::new),
                metrics,
                // It answers to the end.
                draining: Arc::default(),
                settings: server.listener.clone(),
            },
            draining,
        })
    }

    /// Those that may have to be read again.
    pub(crate) fn certificates(&self) -> Vec<Arc<Tls>> {
        [&self.data.tls, &self.control.tls].into_iter().flatten().cloned().collect()
    }

    /// What says that clients of the data plane should go elsewhere.
    pub(crate) fn draining(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.draining)
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

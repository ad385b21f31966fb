//! What the holder needs from outside of its network: sockets of the machine, programs that
//! connect the two. One thread stays behind in the machine's network and does it.

use std::io;
use std::net::{SocketAddr, TcpListener as StdTcpListener, UdpSocket as StdUdpSocket};
use std::sync::mpsc::{Sender, channel};

use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};
use tokio::sync::oneshot;

type Task = Box<dyn FnOnce() + Send>;

/// A way to that thread.
#[derive(Debug, Clone)]
pub struct Host(Sender<Task>);

impl Host {
    /// Starts the thread. Called while the process is still in the machine's network.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn start() -> io::Result<Self> {
        let (sender, tasks) = channel::<Task>();
        std::thread::Builder::new()
            .name("host".to_owned())
            .spawn(move || {
                for task in tasks {
                    task();
                }
            })?;
        Ok(Self(sender))
    }

    /// Does something in the machine's network. It should be quick.
    ///
    /// # Errors
    /// What `task` returns, or that the thread is gone.
    pub async fn run<T, F>(&self, task: F) -> io::Result<T>
    where
        T: Send + 'static,
        F: FnOnce() -> io::Result<T> + Send + 'static,
    {
        let (done, result) = oneshot::channel();
        let task: Task = Box::new(move || drop(done.send(task())));
        let gone = || io::Error::other("the thread of the machine's network is gone");
        self.0.send(task).map_err(|_| gone())?;
        result.await.map_err(|_| gone())?
    }

    /// Listens on an address of the machine.
    ///
    /// # Errors
    /// When the port is taken or not allowed.
    pub async fn listen(&self, address: SocketAddr) -> io::Result<TcpListener> {
        let listener = self.run(move || StdTcpListener::bind(address)).await?;
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener)
    }

    /// Connects to an address as the machine sees it.
    ///
    /// # Errors
    /// When nobody answers there.
    pub async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let new = move || match address {
            SocketAddr::V4(_) => TcpSocket::new_v4(),
            SocketAddr::V6(_) => TcpSocket::new_v6(),
        };
        // A socket belongs to the network in which it was made.
        self.run(new).await?.connect(address).await
    }

    /// A UDP socket of the machine, on any port.
    ///
    /// # Errors
    /// When there is none to be had.
    pub async fn udp(&self) -> io::Result<UdpSocket> {
        self.udp_at(SocketAddr::from(([0, 0, 0, 0], 0))).await
    }

    /// A UDP socket of the machine.
    ///
    /// # Errors
    /// When the port is taken or not allowed.
    pub async fn udp_at(&self, address: SocketAddr) -> io::Result<UdpSocket> {
        let socket = self.run(move || StdUdpSocket::bind(address)).await?;
        socket.set_nonblocking(true)?;
        UdpSocket::from_std(socket)
    }
}

//! A web server for the cases: the base images under the distribution protocol (pulling only),
//! and the files and repositories that `ADD` fetches. It needs no program and no privilege, so
//! it runs inside a pod as well.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

/// What is sent for a path.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    /// `200 OK` when empty.
    pub status: &'static str,
    pub headers: Vec<(&'static str, String)>,
    pub body: Arc<Vec<u8>>,
}

impl Answer {
    pub fn body(bytes: impl Into<Vec<u8>>) -> Self {
        Self {
            body: Arc::new(bytes.into()),
            ..Self::default()
        }
    }

    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub fn status(mut self, status: &'static str) -> Self {
        self.status = status;
        self
    }
}

/// A running server; it ends with the process.
#[derive(Debug, Clone)]
pub struct Server {
    /// `127.0.0.1:port`
    pub address: String,
}

impl Server {
    pub fn start(answers: BTreeMap<String, Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let answers = Arc::new(answers);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let answers = Arc::clone(&answers);
                // A client that goes away in the middle is its own business.
                std::thread::spawn(move || drop(serve(stream, &answers)));
            }
        });
        Self { address }
    }
}

/// One request for each connection.
fn serve(mut stream: TcpStream, answers: &BTreeMap<String, Answer>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let mut words = request.split(' ');
    let (method, target) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    let path = target.split('?').next().unwrap_or("");
    let missing = Answer::body("not here\n").status("404 Not Found");
    let answer = answers.get(path).unwrap_or(&missing);
    let status = if answer.status.is_empty() {
        "200 OK"
    } else {
        answer.status
    };
    write!(
        stream,
        "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n",
        answer.body.len()
    )?;
    for (name, value) in &answer.headers {
        write!(stream, "{name}: {value}\r\n")?;
    }
    stream.write_all(b"\r\n")?;
    if method != "HEAD" {
        stream.write_all(&answer.body)?;
    }
    stream.flush()
}

//! Both services in one binary: `quickstart page` greets and asks the counter, `quickstart counter`
//! counts. Plain HTTP over the standard library, one thread a connection.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

static COUNT: AtomicU64 = AtomicU64::new(0);

fn main() {
    let role = std::env::args().nth(1).unwrap_or_default();
    let answer: fn(&str) -> String = match role.as_str() {
        "page" => page,
        "counter" => count,
        other => panic!("start it as `page` or `counter`, not `{other}`"),
    };
    let listener = TcpListener::bind("0.0.0.0:8080").expect("port 8080 is free");
    println!("{role} listens on 8080");
    for stream in listener.incoming().flatten() {
        std::thread::spawn(move || drop(serve(stream, answer)));
    }
}

fn serve(mut stream: TcpStream, answer: fn(&str) -> String) -> std::io::Result<()> {
    let mut request = BufReader::new(&stream).lines();
    let line = request.next().transpose()?.unwrap_or_default();
    // The rest of the head is read, or the client sees a reset.
    while request.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let path = line.split(' ').nth(1).unwrap_or("/");
    let body = if path == "/healthy" { "ok".to_owned() } else { answer(path) };
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

/// The greeting, and how often it was asked for.
fn page(_: &str) -> String {
    let read = |name: &str| std::fs::read_to_string(name).unwrap_or_default();
    let visits = visits().unwrap_or_else(|error| format!("unknown ({error})"));
    let mood = std::env::var("MOOD").unwrap_or_default();
    read("/page/index.html")
        .replace("{greeting}", read("/page/greeting.txt").trim())
        .replace("{visits}", visits.trim())
        .replace("{mood}", &mood)
}

/// Asks the other service, by its name.
fn visits() -> std::io::Result<String> {
    let mut stream = TcpStream::connect("counter:80")?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    stream.write_all(b"GET /next HTTP/1.1\r\nHost: counter\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let body = text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    body.ok_or_else(|| std::io::ErrorKind::InvalidData.into())
}

fn count(_: &str) -> String {
    (COUNT.fetch_add(1, Ordering::Relaxed) + 1).to_string()
}

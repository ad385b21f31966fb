//! What the `ADD` of a case can fetch.

use std::collections::BTreeMap;

use crate::bases;
use crate::server::Answer;

/// Every file, by its path.
pub fn files() -> BTreeMap<String, Answer> {
    let modified = "Mon, 03 Mar 2003 03:03:03 GMT";
    let plain = || Answer::body("hello\n");
    let mut files = BTreeMap::new();
    let mut put = |path: &str, answer: Answer| files.insert(format!("/files/{path}"), answer);
    put("hello.txt", plain().header("Last-Modified", modified));
    put("undated.txt", plain());
    put(
        "tagged.txt",
        plain()
            .header("ETag", "\"one\"")
            .header("Last-Modified", modified),
    );
    put(
        "disposition",
        plain().header("Content-Disposition", "attachment; filename=\"named.txt\""),
    );
    put(
        "moved",
        plain()
            .status("302 Found")
            .header("Location", "/files/hello.txt"),
    );
    put("directory/", plain().header("Last-Modified", modified));
    put("broken", plain().status("500 Internal Server Error"));
    put(
        "archive.tar.gz",
        Answer::body(archive()).header("Last-Modified", modified),
    );
    files
}

/// A small archive with owners and times of its own.
fn archive() -> Vec<u8> {
    let gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut tar = tar::Builder::new(gzip);
    for (path, mode, body) in [
        ("packed/one", 0o640, "one\n"),
        ("packed/two", 0o755, "two\n"),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_mode(mode);
        header.set_uid(12);
        header.set_gid(13);
        header.set_mtime(bases::TIME);
        header.set_size(body.len() as u64);
        tar.append_data(&mut header, path, body.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap()
}

//! An image as text: what of its configuration, history and layers a user can see. The same code
//! reads what BuildKit made and what Kiln made.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Read;
use std::path::Path;

use serde_json::Value;

use crate::bases;

/// Files that are older than this were given a time by a case or a base; younger ones were made
/// by the build. 2020-01-01.
const MADE_BY_THE_BUILD: u64 = 1_577_836_800;
/// Content up to this length is shown, longer content has its digest shown.
const SHOWN: usize = 600;
/// Mount points that BuildKit's runtime leaves behind in an image without them.
const LEFT_BEHIND: [&str; 3] = ["dev/", "proc/", "sys/"];

/// The attribute that BuildKit keeps.
const CAPABILITY: &str = "security.capability";
/// What BuildKit puts behind instructions that make a layer.
const SIGNATURE: &str = " # buildkit";

/// Describes the only image of an OCI layout. Layers whose digests are in `of_bases` are counted.
pub fn describe(layout: &Path, of_bases: &[String]) -> String {
    let blob = |descriptor: &Value| {
        let digest = descriptor["digest"].as_str().unwrap();
        fs::read(layout.join("blobs").join(digest.replace(':', "/"))).unwrap()
    };
    let json = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap();
    let index = json(&fs::read(layout.join("index.json")).unwrap());
    let manifest = json(&blob(&index["manifests"][0]));
    let config = json(&blob(&manifest["config"]));
    let mut text = String::from("config\n");
    for key in ["architecture", "variant", "os", "author"] {
        if let Some(value) = config.get(key) {
            let value = value.as_str().unwrap_or_default();
            // A recording holds for every processor.
            let value = if value == bases::architecture() {
                "(this machine's)"
            } else {
                value
            };
            let _ = writeln!(text, "  {key}: {value}");
        }
    }
    let runtime = config["config"].as_object().cloned().unwrap_or_default();
    let runtime: BTreeMap<String, Value> = runtime.into_iter().collect();
    for (key, value) in runtime {
        let _ = writeln!(text, "  {key}: {value}");
    }
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let ids = list(&config["rootfs"]["diff_ids"]);
    let layers: Vec<String> = list(&manifest["layers"])
        .iter()
        .zip(&ids)
        .map(|(layer, id)| match of_bases.iter().any(|base| id == base) {
            true => "(of the base)\n".to_owned(),
            false => entries(&blob(layer)),
        })
        .collect();
    text.push_str("history\n");
    let mut next = layers.iter();
    for entry in &list(&config["history"]) {
        let by = entry["created_by"].as_str().unwrap_or_default();
        let by = by.trim_end_matches(SIGNATURE);
        // A layer without entries says nothing: BuildKit keeps it, Kiln leaves it out.
        let has_layer =
            entry["empty_layer"] != true && next.next().is_none_or(|entries| !entries.is_empty());
        let layer = if has_layer { "+" } else { "-" };
        let _ = writeln!(text, "  {layer} {}", by.escape_debug());
    }
    for entries in layers.iter().filter(|entries| !entries.is_empty()) {
        text.push_str("layer\n");
        text.push_str(entries);
    }
    text
}

/// The entries of a layer by path, a line each.
fn entries(blob: &[u8]) -> String {
    let mut tar = Vec::new();
    flate2::read::GzDecoder::new(blob)
        .read_to_end(&mut tar)
        .unwrap();
    let mut archive = tar::Archive::new(&tar[..]);
    let mut lines = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = name(&entry.path_bytes());
        let line = line(&mut entry, &path);
        if LEFT_BEHIND.contains(&path.as_str()) && line.contains("d 0755 0:0 now") {
            continue;
        }
        lines.push((path.trim_end_matches('/').to_owned(), line));
    }
    lines.sort();
    lines.into_iter().map(|(_, line)| line).collect()
}

fn line(entry: &mut tar::Entry<'_, &[u8]>, path: &str) -> String {
    let mut attributes = BTreeMap::new();
    let mut times = None;
    if let Some(records) = entry.pax_extensions().unwrap() {
        for record in records.flatten() {
            let key = record.key().unwrap_or_default().to_owned();
            // BuildKit keeps no other attribute; that Kiln does is shown elsewhere.
            let kept = key
                .strip_prefix("SCHILY.xattr.")
                .filter(|name| *name == CAPABILITY);
            if let Some(name) = kept {
                attributes.insert(name.to_owned(), record.value_bytes().to_vec());
            } else if key == "mtime" {
                let whole = record.value().unwrap_or_default().split('.').next();
                times = whole.and_then(|whole| whole.parse().ok());
            }
        }
    }
    let header = entry.header().clone();
    let kind = match header.entry_type() {
        tar::EntryType::Directory => 'd',
        tar::EntryType::Symlink => 'l',
        tar::EntryType::Link => 'h',
        tar::EntryType::Fifo => 'p',
        tar::EntryType::Char => 'c',
        tar::EntryType::Block => 'b',
        _ => 'f',
    };
    let is_whiteout = path
        .rsplit('/')
        .next()
        .is_some_and(|name| name.starts_with(".wh."));
    if is_whiteout {
        return format!("  removed {path}\n");
    }
    let time: u64 = times.unwrap_or_else(|| header.mtime().unwrap());
    let time = if time > MADE_BY_THE_BUILD {
        "now".to_owned()
    } else {
        jiff::Timestamp::from_second(i64::try_from(time).unwrap())
            .unwrap()
            .to_string()
    };
    let mut line = format!(
        "  {kind} {:04o} {}:{} {time} {path}",
        header.mode().unwrap() & 0o7777,
        header.uid().unwrap(),
        header.gid().unwrap()
    );
    if let Some(target) = entry.link_name_bytes() {
        let _ = write!(line, " -> {}", name(&target));
    }
    if matches!(kind, 'c' | 'b') {
        let number = |number: std::io::Result<Option<u32>>| number.unwrap().unwrap_or_default();
        let _ = write!(
            line,
            " {},{}",
            number(header.device_major()),
            number(header.device_minor())
        );
    }
    for (name, value) in attributes {
        let _ = write!(line, " {name}={}", value.escape_ascii());
    }
    if kind == 'f' {
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        let _ = match std::str::from_utf8(&content) {
            Ok(text) if text.len() <= SHOWN => write!(line, " {text:?}"),
            _ => write!(line, " {} bytes {}", content.len(), bases::digest(&content)),
        };
    }
    line.push('\n');
    line
}

/// A name with the bytes that are no UTF-8 as `\xff`: two such names look different.
fn name(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

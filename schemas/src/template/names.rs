//! The names of the functions that a template calls, so that a wrong one is
//! found when the file is read and not when the branch is reached.

use gotmpl::parse::{BranchNode, Expr, ListNode, Node, Parser, PipeNode};

/// Every function that `text` calls, in order, or why it cannot be parsed.
pub(super) fn called(text: &str) -> Result<Vec<String>, gotmpl::TemplateError> {
    let (body, defines) = Parser::new(text, "{{", "}}")?.parse()?;
    let mut names = Vec::new();
    list(&body, &mut names);
    for define in &defines {
        list(&define.body, &mut names);
    }
    Ok(names)
}

fn list(nodes: &ListNode, names: &mut Vec<String>) {
    for node in &nodes.nodes {
        match node {
            Node::List(nodes) => list(nodes, names),
            Node::Action(action) => pipe(&action.pipe, names),
            Node::If(node) | Node::Range(node) | Node::With(node) => branch(node, names),
            Node::Template(call) => call.pipe.iter().for_each(|node| pipe(node, names)),
            Node::Define(define) => list(&define.body, names),
            Node::Text(_) | Node::Break(_) | Node::Continue(_) => {}
        }
    }
}

fn branch(node: &BranchNode, names: &mut Vec<String>) {
    pipe(&node.pipe, names);
    list(&node.body, names);
    node.else_body.iter().for_each(|nodes| list(nodes, names));
}

fn pipe(node: &PipeNode, names: &mut Vec<String>) {
    for argument in node.commands.iter().flat_map(|command| &command.args) {
        expression(argument, names);
    }
}

fn expression(node: &Expr, names: &mut Vec<String>) {
    match node {
        Expr::Identifier(_, name) => names.push(name.to_string()),
        Expr::Pipe(_, inner) => pipe(inner, names),
        Expr::Chain(_, inner, _) => expression(inner, names),
        _ => {}
    }
}

//! A seccomp filter that refuses some system calls with EPERM, as a container runtime's does.
#![allow(unsafe_code, reason = "no safe wrapper installs a seccomp filter")]

use std::io;

/// Installs it for this process and all that it starts.
pub fn refuse(calls: &[i64]) -> io::Result<()> {
    const LOAD_NUMBER: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let line = |code, k, jf| libc::sock_filter { code, jt: 0, jf, k };
    let mut program = vec![line(LOAD_NUMBER, 0, 0)];
    for call in calls {
        let number = u32::try_from(*call).map_err(io::Error::other)?;
        program.push(line(IF_EQUAL, number, 1));
        program.push(line(
            RETURN,
            libc::SECCOMP_RET_ERRNO | libc::EPERM as u32,
            0,
        ));
    }
    program.push(line(RETURN, libc::SECCOMP_RET_ALLOW, 0));
    let filter = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(io::Error::other)?,
        filter: program.as_mut_ptr(),
    };
    // SAFETY: the filter points to `len` instructions that outlive the call; a filter installed
    // with SYS_ADMIN or no-new-privs changes no memory of ours.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            0,
            &raw const filter,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

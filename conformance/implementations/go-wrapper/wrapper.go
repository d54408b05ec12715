// A wrapper for shell escalation in Go, written from conformance/SPEC.md alone, with the standard library. It needs
// Linux, and knows the extensions signals and umask. It doesn't know "bytes": what isn't UTF-8 fails closed.
//
//	go build -o wrapper wrapper.go
package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode"
	"unicode/utf8"
	"unsafe"
)

const (
	socketVariable = "CODEX_ESCALATE_SOCKET"
	denied         = 1
	usage          = 2
	failed         = 126 // also: found, and can't be executed
	missing        = 127
	maxFds         = 16
	maxPayload     = 16 << 20
)

var wrapperVariables = []string{"EXEC_WRAPPER", "BASH_EXEC_WRAPPER", socketVariable}

// failure is an error that knows the exit status that goes with it.
type failure struct {
	status int
	error
}

func main() {
	if len(os.Args) < 3 {
		exit(usage, "usage: "+os.Args[0]+" FILE ARGV0 [ARGV1 ...]")
	}
	// Signals are sent to this thread, so that they have acted when the call returns.
	runtime.LockOSThread()
	status, err := handle(os.Args[1], os.Args[2:])
	if err != nil {
		status = failed
		var known failure
		if errors.As(err, &known) {
			status = known.status
		}
		exit(status, "execve-wrapper: "+printable(err.Error(), ""))
	}
	os.Exit(status)
}

// handle asks the server about a command and does what it says. It returns the exit status, if it returns.
func handle(file string, argv []string) (int, error) {
	escalation, err := escalationSocket()
	if err != nil {
		return 0, err
	}
	request, err := makeRequest(file, argv)
	if err != nil {
		return 0, err
	}
	server, err := handshake(escalation)
	if err != nil {
		return 0, err
	}
	if err := server.send(request, nil); err != nil {
		return 0, err
	}
	decision, err := server.receive("decision")
	if err != nil {
		return 0, err
	}
	var action string
	if json.Unmarshal(decision["action"], &action) == nil {
		switch action {
		case "Run":
			return 0, run(file, argv)
		case "Escalate":
			return escalate(server, escalation)
		}
		return 0, fmt.Errorf("the server's decision has an unknown action %q", action)
	}
	reason, err := denial(decision["action"])
	if err != nil {
		return 0, err
	}
	exit(denied, "Execution denied"+printable(reason, "\n\t"))
	panic("not reached")
}

// exit ends the wrapper with a message on standard error, which may be closed or broken.
func exit(status int, message string) {
	signal.Ignore(syscall.SIGPIPE)
	io.WriteString(os.Stderr, message+"\n")
	os.Exit(status)
}

// printable escapes the control characters of a text, those of `kept` excepted.
func printable(text, kept string) string {
	var out strings.Builder
	for _, character := range text {
		if unicode.IsControl(character) && !strings.ContainsRune(kept, character) {
			fmt.Fprintf(&out, "\\u{%x}", character)
		} else {
			out.WriteRune(character)
		}
	}
	return out.String()
}

// escalationSocket returns the descriptor that the shell has passed down.
func escalationSocket() (int, error) {
	text, found := os.LookupEnv(socketVariable)
	if !found {
		return 0, errors.New(socketVariable + " is not set")
	}
	number, err := strconv.ParseUint(text, 10, 31)
	if err != nil {
		return 0, fmt.Errorf("%s is not the number of a descriptor: %q", socketVariable, text)
	}
	var status syscall.Stat_t
	if syscall.Fstat(int(number), &status) != nil || status.Mode&syscall.S_IFMT != syscall.S_IFSOCK {
		return 0, fmt.Errorf("%s=%d is not an open socket", socketVariable, number)
	}
	return int(number), nil
}

// makeRequest returns the request as JSON. encoding/json would replace what is not UTF-8 without a word.
func makeRequest(file string, argv []string) ([]byte, error) {
	// Not os.Getwd, which believes PWD.
	directory, err := syscall.Getwd()
	if err != nil {
		return nil, fmt.Errorf("no working directory: %w", err)
	}
	env := map[string]string{}
	texts := append([]string{file, directory}, argv...)
	for _, entry := range os.Environ() {
		name, value, found := strings.Cut(entry, "=")
		if !found || contains(wrapperVariables, name) {
			continue
		}
		env[name] = value
		texts = append(texts, entry)
	}
	for _, text := range texts {
		if !utf8.ValidString(text) {
			return nil, fmt.Errorf("%q is not UTF-8 and can't be sent to the server", text)
		}
	}
	mask := syscall.Umask(0)
	syscall.Umask(mask)
	return json.Marshal(map[string]any{"file": file, "argv": argv, "workdir": directory, "env": env, "umask": mask})
}

func contains(names []string, wanted string) bool {
	for _, name := range names {
		if name == wanted {
			return true
		}
	}
	return false
}

// stream is the wrapper's end of a request stream.
type stream int

// handshake hands one end of a new stream to the server and returns the other one.
func handshake(escalation int) (stream, error) {
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("can't make a socket pair: %w", err)
	}
	// Where a standard stream is closed, the wrapper's end must not take its place.
	ours, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(pair[0]), syscall.F_DUPFD_CLOEXEC, 3)
	if errno != 0 {
		return 0, fmt.Errorf("can't move the socket: %w", errno)
	}
	_, err = sendFds(escalation, []byte{0}, pair[1:])
	syscall.Close(pair[0])
	syscall.Close(pair[1])
	if err != nil {
		return 0, fmt.Errorf("no server at %s: %w", socketVariable, err)
	}
	return stream(ours), nil
}

// sendFds sends bytes with descriptors. It waits while the socket is full, whose flags belong to others too.
func sendFds(socket int, bytes []byte, fds []int) (int, error) {
	var rights []byte
	if len(fds) > 0 {
		rights = syscall.UnixRights(fds...)
	}
	for {
		sent, err := syscall.SendmsgN(socket, bytes, rights, nil, syscall.MSG_NOSIGNAL)
		if err != syscall.EAGAIN && err != syscall.ETOOMANYREFS && err != syscall.EINTR {
			return sent, err
		}
		time.Sleep(5 * time.Millisecond) // POLLOUT comes too late: SPEC.md, section 6.
	}
}

// send sends a frame, its first byte with descriptors. A server that has closed its end is no error here: what it said
// before is still to be read, and if it said nothing, receive tells.
func (s stream) send(payload []byte, fds []int) error {
	frame := append(binary.LittleEndian.AppendUint32(nil, uint32(len(payload))), payload...)
	for len(frame) > 0 {
		sent, err := sendFds(int(s), frame, fds)
		if err == syscall.EPIPE || err == syscall.ECONNRESET {
			return nil
		}
		if err != nil {
			return fmt.Errorf("can't send to the server: %w", err)
		}
		frame, fds = frame[sent:], nil
	}
	return nil
}

// Read makes a stream an io.Reader. read(2) closes descriptors that come along unasked.
func (s stream) Read(bytes []byte) (int, error) {
	for {
		count, err := syscall.Read(int(s), bytes)
		switch {
		case err == syscall.EINTR:
			continue
		case err != nil:
			return 0, err
		case count == 0:
			return 0, io.EOF
		}
		return count, nil
	}
}

// message is a message of the server, its members unread. Unlike a struct it respects the case of their names.
type message map[string]json.RawMessage

func (s stream) receive(what string) (message, error) {
	var length uint32
	if err := binary.Read(s, binary.LittleEndian, &length); err != nil {
		return nil, fmt.Errorf("the server closed the connection before its %s: %w", what, err)
	}
	if length > maxPayload {
		return nil, fmt.Errorf("the server announces %d bytes for its %s", length, what)
	}
	payload, err := io.ReadAll(io.LimitReader(s, int64(length)))
	if err == nil && len(payload) < int(length) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, fmt.Errorf("the server closed the connection within its %s: %w", what, err)
	}
	var members message
	if !utf8.Valid(payload) || json.Unmarshal(payload, &members) != nil {
		return nil, fmt.Errorf("the server's %s is malformed", what)
	}
	return members, nil
}

// integer returns a member that must be an integer, if it is there.
func (m message) integer(name string) (value int, found bool, err error) {
	raw, found := m[name]
	if found && (string(raw) == "null" || json.Unmarshal(raw, &value) != nil) {
		err = fmt.Errorf("the server's %s is not a number: %s", name, raw)
	}
	return value, found, err
}

// denial returns what follows "Execution denied": nothing, or a colon and the reason.
func denial(action json.RawMessage) (string, error) {
	var object, deny message
	var reason *string
	if json.Unmarshal(action, &object) != nil || json.Unmarshal(object["Deny"], &deny) != nil ||
		json.Unmarshal(deny["reason"], &reason) != nil {
		return "", errors.New("the server's decision is malformed")
	}
	if reason == nil {
		return "", nil
	}
	return ": " + *reason, nil
}

// run becomes the command.
func run(file string, argv []string) error {
	err := syscall.Exec(file, argv, os.Environ())
	if err == syscall.ENOEXEC && !isBinary(file) { // A script without #!, as in execvp(3).
		script := []string{"/bin/sh", file}
		if strings.HasPrefix(file, "-") {
			script = []string{"/bin/sh", "--", file}
		}
		err = syscall.Exec("/bin/sh", append(script, argv[1:]...), os.Environ())
	}
	status := failed
	if err == syscall.ENOENT || err == syscall.ENOTDIR {
		status = missing
	}
	return failure{status, fmt.Errorf("%s: %w", file, err)}
}

// isBinary: ELF, or a NUL in the first line. bash and zsh look at the same.
func isBinary(file string) bool {
	opened, err := os.Open(file)
	if err != nil {
		return false
	}
	defer opened.Close()
	start := make([]byte, 80)
	length, _ := opened.Read(start)
	first, _, _ := bytes.Cut(start[:length], []byte("\n"))
	return bytes.HasPrefix(start[:length], []byte("\x7fELF")) || bytes.IndexByte(first, 0) >= 0
}

// escalate lets the server execute the command, and waits for its end.
func escalate(server stream, escalation int) (int, error) {
	signals := make(chan os.Signal, 64)
	for number := syscall.Signal(1); number <= 64; number++ {
		if number != syscall.SIGURG { // The runtime sends it to itself, to interrupt goroutines.
			signal.Notify(signals, number) // What was ignored here the program may handle.
		}
	}
	fds, err := inheritedFds(escalation)
	if err != nil {
		return 0, err
	}
	payload, err := json.Marshal(map[string]any{"fds": fds, "signals": true})
	if err != nil {
		return 0, err
	}
	if err := server.send(payload, fds); err != nil {
		return 0, err
	}
	for _, fd := range fds {
		if fd != syscall.Stderr {
			syscall.Close(fd)
		}
	}
	go func() {
		for number := range signals {
			server.send([]byte(fmt.Sprintf(`{"signal":%d}`, number)), nil)
		}
	}()
	for {
		result, err := server.receive("result")
		if err != nil {
			return 0, err
		}
		status, ended, err := result.integer("exit_code")
		if err != nil {
			return 0, err
		}
		_, stopped, err := result.integer("stopped")
		if err != nil {
			return 0, err
		}
		killer, killed, err := result.integer("signal")
		switch {
		case err != nil:
			return 0, err
		case ended && (status < 0 || status > 255):
			return 0, fmt.Errorf("the server's exit_code is not between 0 and 255: %d", status)
		case ended && killed:
			return dieOf(syscall.Signal(killer), status)
		case ended:
			return status, nil
		case stopped:
			raise(syscall.SIGSTOP) // Once continued, the goroutine above forwards SIGCONT.
		default:
			return 0, errors.New("the server's result has no exit_code")
		}
	}
}

// inheritedFds lists the descriptors that the wrapper was started with: all that Go opens itself is close-on-exec.
func inheritedFds(escalation int) ([]int, error) {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return nil, fmt.Errorf("can't list descriptors: %w", err)
	}
	fds := []int{} // Never nil, which would be null in JSON.
	for _, entry := range entries {
		fd, err := strconv.Atoi(entry.Name())
		if err != nil || fd == escalation {
			continue
		}
		flags, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_GETFD, 0)
		if errno == 0 && flags&syscall.FD_CLOEXEC == 0 {
			fds = append(fds, fd)
		}
	}
	if len(fds) > maxFds {
		return nil, fmt.Errorf("%d descriptors are open, and more than %d can't be escalated", len(fds), maxFds)
	}
	return fds, nil
}

// raise sends a signal to the calling thread: it has acted when this returns.
func raise(number syscall.Signal) {
	syscall.Tgkill(os.Getpid(), syscall.Gettid(), number)
}

// dieOf ends the wrapper by a signal, or returns an exit status where the signal doesn't end a process.
func dieOf(number syscall.Signal, status int) (int, error) {
	switch number {
	case syscall.SIGCHLD, syscall.SIGCONT, syscall.SIGSTOP, syscall.SIGTSTP, syscall.SIGTTIN, syscall.SIGTTOU,
		syscall.SIGURG, syscall.SIGWINCH:
	default:
		if number > 0 && number <= 64 {
			// The core would be the wrapper's and not the child's.
			syscall.RawSyscall(syscall.SYS_PRCTL, syscall.PR_SET_DUMPABLE, 0, 0)
			// Not signal.Reset, after which the runtime still handles the signal. All zero is SIG_DFL, no flags, no mask.
			var action [4]uint64
			syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, uintptr(number), uintptr(unsafe.Pointer(&action)), 0, 8, 0, 0)
			unblocked := uint64(1) << (number - 1)
			const sigUnblock = 1
			syscall.RawSyscall6(syscall.SYS_RT_SIGPROCMASK, sigUnblock, uintptr(unsafe.Pointer(&unblocked)), 0, 8, 0, 0)
			raise(number)
		}
	}
	if status == 0 {
		status = failed
	}
	return status, nil
}

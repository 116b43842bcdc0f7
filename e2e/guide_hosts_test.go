package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The hosts of the guide. The commands of a block marked with each-node run on all nodes, one after the other.
const (
	workstation = "workstation"
	eachNode    = "each-node"
)

var guideNodes = []string{"node1", "node2", "node3"}

// guideDomain is what the names of the nodes end with.
const guideDomain = ".example"

// stands lists what stands for something else in the test of the guide. Nothing else does, and no command is changed:
// the folders and the addresses of a host are its own, so that commands mean what they mean on a machine.
var stands = []struct{ what, by string }{
	{"three machines and a workstation", "namespaces of network, mounts, host name and (nodes) processes"},
	{"/etc, /var/lib, /run, /tmp, /root, /usr/local/bin", "folders of each host; /etc begins as that of the machine"},
	{"names in the DNS", "/etc/hosts"},
	{"/usr/local/bin/chainstore", "the program under test"},
	{"ssh and scp", "testdata/guide/ssh and scp, which enter the other host as root"},
	{"systemctl", "testdata/guide/systemctl, which runs the ExecStart line of the unit files"},
}

// guideTools are the programs that the hosts and the commands of the guide need.
var guideTools = []string{"nsenter", "unshare", "mount", "setpriv", "runuser", "useradd", "hostname", "bash", "awk",
	"curl", "jq", "openssl"}

// guideHosts are the machines of the guide.
type guideHosts struct {
	t   *testing.T
	dir string
	ns  *namespaces
	all map[string]*guideHost // by name: workstation, node1, …
	// binary is the program under test, without the race detector: nine processes with it would miss the timeouts of
	// raft, which the guide leaves at their defaults.
	binary string
}

// guideHost is a machine with a shell that keeps its folder and variables from block to block.
type guideHost struct {
	name  string
	dir   string // what the test sees of its files: etc, var/lib, …
	pid   int    // in the namespaces of the host
	init  io.Closer
	shell *exec.Cmd
	stdin io.WriteCloser
	done  *bufio.Reader // a line for each block that has succeeded
	ended chan struct{} // closed when the shell has ended
	ran   int           // blocks
}

// newGuideHosts makes the hosts. They end with the test, and everything that runs in them.
func newGuideHosts(t *testing.T) *guideHosts {
	t.Helper()
	if err := haveNamespaces(); err != nil {
		t.Skipf("no network namespaces: %v", err)
	}
	for _, tool := range guideTools {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("the commands of the guide need a tool that this machine does not have: %v", err)
		}
	}
	dir, err := os.MkdirTemp("", "chainstore-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	h := &guideHosts{t: t, dir: dir, all: map[string]*guideHost{}, binary: binary}
	if underRace && settings.binary == "" {
		h.binary = filepath.Join(dir, "chainstore")
		if out, err := exec.Command("go", "build", "-o", h.binary, "../cmd/chainstore").CombinedOutput(); err != nil {
			t.Fatalf("build chainstore: %v: %s", err, out)
		}
	}
	if h.ns, err = newNamespaces(guideNodes); err != nil {
		t.Fatal(errors.Join(err, os.RemoveAll(dir)))
	}
	t.Cleanup(h.close)
	names := "127.0.0.1 localhost\n"
	for _, node := range guideNodes {
		names += h.ns.addresses[node] + " " + node + guideDomain + "\n"
	}
	for _, node := range guideNodes {
		h.start(node, h.ns.name(node), node+guideDomain, names)
	}
	w := h.start(workstation, h.ns.name(clientName), workstation+guideDomain, names)
	for _, node := range guideNodes {
		path := filepath.Join(w.dir, "run", "hosts", node+guideDomain)
		h.must(os.MkdirAll(filepath.Dir(path), 0o755))
		h.must(os.WriteFile(path, []byte(strconv.Itoa(h.all[node].pid)), 0o644))
	}
	return h
}

func (h *guideHosts) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

// start makes a host and its shell.
func (h *guideHosts) start(name, network, hostname, names string) *guideHost {
	h.t.Helper()
	g := &guideHost{name: name, dir: filepath.Join(h.dir, name), ended: make(chan struct{})}
	for _, folder := range []string{"etc", "var/lib", "run/services", "tmp", "root", "usr/local/bin"} {
		h.must(os.MkdirAll(filepath.Join(g.dir, folder), 0o755))
	}
	h.must(os.Chmod(filepath.Join(g.dir, "tmp"), 0o777|os.ModeSticky))
	h.must(os.WriteFile(filepath.Join(g.dir, "hosts"), []byte(names), 0o644))
	h.program(g, h.binary, "chainstore")
	tools := []string{"systemctl"}
	if name == workstation {
		tools = []string{"ssh", "scp"}
	}
	for _, tool := range tools {
		h.program(g, filepath.Join("testdata", "guide", tool), tool)
	}
	script, err := filepath.Abs(filepath.Join("testdata", "guide", "host"))
	h.must(err)
	args := []string{"netns", "exec", network, "unshare", "--mount", "--uts"}
	if name != workstation { // whose ssh must see the processes of the other hosts
		args = append(args, "--pid", "--mount-proc")
	}
	// unshare stays the parent of the script, and kills it when it is killed itself.
	args = append(args, "--fork", "--kill-child", "bash", script, hostname, g.dir)
	cmd := exec.Command("ip", args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	h.must(err)
	stdout, err := cmd.StdoutPipe()
	h.must(err)
	h.must(cmd.Start())
	g.pid, g.init = cmd.Process.Pid, closer(func() error {
		_ = stdin.Close() // the script ends
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		select {
		case err := <-ended:
			return err
		case <-time.After(patience):
			return errors.Join(fmt.Errorf("the host %s has not ended", name), cmd.Process.Kill(), <-ended)
		}
	})
	h.all[name] = g
	if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "ready\n" {
		h.t.Fatalf("the host %s is not ready: %q, %v", name, line, err)
	}
	h.openShell(g)
	return g
}

// closer is a function as an io.Closer.
type closer func() error

func (c closer) Close() error { return c() }

// program gives a program to a host.
func (h *guideHosts) program(g *guideHost, from, name string) {
	h.t.Helper()
	data, err := os.ReadFile(from)
	h.must(err)
	h.must(os.WriteFile(filepath.Join(g.dir, "usr/local/bin", name), data, 0o755))
}

// enter returns a command in the namespaces of a host.
func (g *guideHost) enter(ctx context.Context, args ...string) *exec.Cmd {
	within := []string{"--target", strconv.Itoa(g.pid), "--net", "--mount", "--uts"}
	if g.name != workstation {
		within = append(within, fmt.Sprintf("--pid=/proc/%d/ns/pid_for_children", g.pid))
	}
	within = append(within, "--", "env", "-i", "HOME=/root", "USER=root", "GORACE="+os.Getenv("GORACE"),
		"PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin")
	cmd := exec.CommandContext(ctx, "nsenter", append(within, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	return cmd
}

// openShell starts the shell of a host. A command that fails ends it.
func (h *guideHosts) openShell(g *guideHost) {
	h.t.Helper()
	read, write, err := os.Pipe()
	h.must(err)
	h.t.Cleanup(func() { _ = read.Close() }) // it is only read
	g.done = bufio.NewReader(read)
	g.shell = g.enter(h.t.Context(), "bash", "--noprofile", "--norc", "-c",
		"cd; set -euo pipefail; while read -r block; do . $block < /dev/null > $block.out 2>&1; echo done >&3; done")
	g.shell.ExtraFiles = []*os.File{write}
	g.stdin, err = g.shell.StdinPipe()
	h.must(err)
	h.must(g.shell.Start())
	h.must(write.Close())
	go func() {
		_ = g.shell.Wait() // the output of the block says why
		close(g.ended)
	}()
}

// run runs a block in the shell of a host, and fails the test if a command fails.
func (h *guideHosts) run(ctx context.Context, name string, b guideBlock) {
	h.t.Helper()
	g := h.all[name]
	g.ran++
	block := fmt.Sprintf("tmp/block-%d", g.ran)
	h.must(os.WriteFile(filepath.Join(g.dir, block), []byte(b.text), 0o600))
	done := make(chan error, 1)
	go func() {
		_, err := g.done.ReadString('\n')
		done <- err
	}()
	_, err := io.WriteString(g.stdin, "/"+block+"\n")
	if err == nil {
		select {
		case err = <-done:
			if errors.Is(err, io.EOF) { // the shell has ended
				err = errors.New("a command failed")
			}
		case <-ctx.Done():
			err = fmt.Errorf("not done within %v", guideLimit)
		}
	}
	if err != nil {
		h.t.Fatalf("docs/operations.md:%d on %s: %v:\n%s\nOutput:\n%s\n%s", b.line, name, err, b.text,
			tail(filepath.Join(g.dir, block+".out"), 40), h.logs())
	}
}

// logs returns the ends of the logs of all services.
func (h *guideHosts) logs() string {
	var text strings.Builder
	for _, path := range h.logFiles() {
		fmt.Fprintf(&text, "%s:\n%s\n", path, tail(path, 15))
	}
	return text.String()
}

func (h *guideHosts) logFiles() []string {
	files, err := filepath.Glob(filepath.Join(h.dir, "*", "run", "services", "*.log"))
	h.must(err)
	return files
}

// command runs a program on a host and returns its output.
func (h *guideHosts) command(name string, args ...string) string {
	h.t.Helper()
	out, err := h.all[name].enter(h.t.Context(), args...).CombinedOutput()
	if err != nil {
		h.t.Errorf("%s on %s: %v: %s", strings.Join(args, " "), name, err, out)
	}
	return string(out)
}

// file returns the path under which the test sees a file of the folder of the guide, on the workstation.
func (h *guideHosts) file(name string) string {
	return filepath.Join(h.all[workstation].dir, "root", "ledger", name)
}

// close ends the processes of all hosts and removes their namespaces and files.
func (h *guideHosts) close() {
	for _, g := range h.all {
		if g.shell != nil && g.shell.Process != nil {
			_ = g.stdin.Close() // the shell ends
			select {
			case <-g.ended:
			case <-time.After(time.Second): // in the middle of a command
				_ = syscall.Kill(-g.shell.Process.Pid, syscall.SIGKILL) // it may have ended now
				<-g.ended
			}
		}
		if g.init != nil {
			_ = g.init.Close() // killed with its namespace
		}
	}
	if err := h.ns.close(); err != nil {
		h.t.Errorf("remove the namespaces: %v", err)
	}
	if h.t.Failed() || settings.keep {
		h.t.Logf("the files of the hosts are in %s", h.dir)
		return
	}
	if err := os.RemoveAll(h.dir); err != nil {
		h.t.Error(err)
	}
}

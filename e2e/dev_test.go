package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chainstore/chainstore/client"
	"github.com/chainstore/chainstore/internal/devcluster"
	"github.com/chainstore/chainstore/storagenode/audit"
)

// dev is a running `chainstore dev`, started like a user does.
type dev struct {
	t      *testing.T
	cmd    *exec.Cmd
	output bytes.Buffer // standard output up to "ready"
	errors bytes.Buffer
	ended  chan error
}

// startDev starts `chainstore dev` and waits for the line "ready".
func startDev(t *testing.T, args ...string) *dev {
	t.Helper()
	d := &dev{t: t, cmd: exec.Command(binary, append([]string{"dev"}, args...)...), ended: make(chan error, 1)}
	d.cmd.Stderr = &d.errors
	out, err := d.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if d.cmd.ProcessState == nil {
			_ = d.cmd.Process.Kill() // the test has already failed
			<-d.ended
		}
	})
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if lines.Text() == "ready" {
			go func() { d.ended <- d.cmd.Wait() }()
			return d
		}
		fmt.Fprintln(&d.output, lines.Text())
	}
	err = d.cmd.Wait()
	d.ended <- err
	t.Fatalf("dev ended (%v) before it was ready:\n%s%s", err, d.output.String(), d.errors.String())
	return nil
}

// interrupt sends an interrupt, as Ctrl-C does. The process must end cleanly within 5 s.
func (d *dev) interrupt() {
	d.t.Helper()
	start := time.Now()
	if err := d.cmd.Process.Signal(syscall.SIGINT); err != nil {
		d.t.Fatal(err)
	}
	limit := 5 * time.Second
	if underRace {
		limit *= 4
	}
	select {
	case err := <-d.ended:
		if err != nil {
			d.t.Errorf("Ctrl-C: %v: %s", err, d.errors.String())
		}
		d.t.Logf("stopped within %v", time.Since(start).Round(time.Millisecond))
	case <-time.After(limit):
		d.t.Fatalf("still running %v after Ctrl-C", limit)
	}
}

// fails runs a command that must end with exit status 1 and a message, and must not change anything in dir.
func fails(t *testing.T, dir, message string, args ...string) {
	t.Helper()
	before := listing(t, dir)
	out, err := exec.Command(binary, args...).CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(string(out), message) {
		t.Errorf("%v: %v, said %q, want exit status 1 and %q", args, err, out, message)
	}
	if after := listing(t, dir); after != before {
		t.Errorf("%v changed the folder from\n%sto\n%s", args, before, after)
	}
}

// listing returns the name, size and time of every file of a folder.
func listing(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		fmt.Fprintln(&b, path, info.Size(), info.ModTime().UnixNano())
		return nil
	})
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return b.String()
}

func TestDev(t *testing.T) {
	needsTime(t, "real processes")
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	port := strconv.Itoa(freePorts(t))
	args := []string{"--data", dir, "--port", port}
	d := startDev(t, args...)
	for _, want := range []string{"master-3", "storage-1", "miner-1", "leader", "curl", "http://127.0.0.1:" + port} {
		if !strings.Contains(d.output.String(), want) {
			t.Errorf("the output does not tell %q:\n%s", want, d.output.String())
		}
	}
	path := devcluster.ClusterFilePath(dir)
	first, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	file := checkClusterFile(t, path)
	if strings.Contains(d.output.String(), file.Tokens.Project) ||
		strings.Contains(d.output.String(), file.Tokens.Admin) {
		t.Error("a token was printed")
	}
	c, err := client.New(client.Config{Masters: file.Masters, Token: file.Tokens.Project})
	if err != nil {
		t.Fatal(err)
	}
	position, err := c.AppendWait(t.Context(), client.Entry{Payload: []byte("before")}, 30*time.Second)
	if err != nil || position.State != "stored" {
		t.Fatalf("%+v, %v", position, err)
	}
	// A second `chainstore dev` on the same ports, and on the same folder with other ports.
	other := strconv.Itoa(freePorts(t))
	fails(t, t.TempDir(), "is in use", "dev", "--data", filepath.Join(t.TempDir(), "x"), "--port", port)
	fails(t, "", "in use by another process", "storage", "--data", file.Storages[0].Data, "--http", "127.0.0.1:0",
		"--masters", file.Masters[0], "--cluster-token-file", tokenFile(t, file.Tokens.Cluster))
	d.interrupt()
	fails(t, dir, "was made for masters", "dev", "--data", dir, "--port", other)

	d = startDev(t, append(args, "--processes")...)
	again, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(first, again) {
		t.Errorf("the cluster file changed: %v", err)
	}
	record, err := c.Get(t.Context(), position.Block, position.Offset)
	if err != nil || string(record.Payload) != "before" {
		t.Errorf("%q, %v", record.Payload, err)
	}
	// The leader's process is named in the output. It is killed, and the other processes continue.
	status, err := c.Cluster(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	killed := killLeader(t, d.output.String(), file, status.Leader, func() map[string]string {
		urls := map[string]string{}
		for _, m := range status.Masters {
			urls[m.ID] = m.URL
		}
		return urls
	}())
	after, err := c.AppendWait(t.Context(), client.Entry{Payload: []byte("after")}, 30*time.Second)
	if err != nil || after.Index <= position.Index {
		t.Errorf("after %s was killed: %+v, %v", killed, after, err)
	}
	c.CloseIdle()
	d.interrupt()
	var heads []string
	for _, s := range file.Storages {
		summary, err := audit.Verify(t.Context(), s.Data, nil)
		if err != nil {
			t.Errorf("%s: %v", s.Data, err)
		}
		heads = append(heads, fmt.Sprint(summary.Height, summary.Records, summary.Hash))
	}
	if heads[0] != heads[1] || heads[1] != heads[2] {
		t.Errorf("the storage nodes have different chains: %v", heads)
	}

	// Folders of a newer format: the whole folder, and the folder of one role.
	fails(t, dir, "newer version", "dev", "--data", newer(t, dir, "cluster.json"), "--port", port)
}

// checkClusterFile checks the format of the cluster file.
func checkClusterFile(t *testing.T, path string) devcluster.ClusterFile {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%s: %v, %v", path, info.Mode(), err)
	}
	file, err := devcluster.ReadClusterFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(file.Masters) != 3 || len(file.Storages) != 3 || len(file.Miners) != 1 ||
		file.Tokens.Admin == "" || file.Tokens.Cluster == "" || file.Tokens.Project == "" {
		t.Errorf("%+v", file)
	}
	for _, s := range file.Storages {
		if !filepath.IsAbs(s.Data) || !strings.HasPrefix(s.URL, "http://127.0.0.1:") {
			t.Errorf("%+v", s)
		}
	}
	return file
}

// killLeader kills the leader's process, using the pid that dev printed.
func killLeader(t *testing.T, output string, file devcluster.ClusterFile, leader string,
	urls map[string]string) string {
	t.Helper()
	for _, row := range regexp.MustCompile(`(?m)^(master-\d)\s+(\S+)\s+(\d+)\s`).FindAllStringSubmatch(output, -1) {
		if row[2] != urls[leader] {
			continue
		}
		pid, err := strconv.Atoi(row[3])
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		return row[1]
	}
	t.Fatalf("no pid of the leader %s in\n%s", leader, output)
	return ""
}

// newer copies a file into a new folder, and sets its version to 99.
func newer(t *testing.T, dir, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(data, &fields); err != nil {
		t.Fatal(err)
	}
	fields["version"] = 99
	if data, err = json.Marshal(fields); err != nil {
		t.Fatal(err)
	}
	copied := t.TempDir()
	if err := os.WriteFile(filepath.Join(copied, name), data, 0o600); err != nil {
		t.Fatal(err)
	}
	return copied
}

func tokenFile(t *testing.T, token string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestRolesRefuse checks that each role rejects invalid settings and data at once, by name, with exit status 1.
func TestRolesRefuse(t *testing.T) {
	needsTime(t, "real processes")
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	readable := tokenFile(t, "a-cluster-token-of-the-test")
	if err := os.Chmod(readable, 0o644); err != nil {
		t.Fatal(err)
	}
	token, admin := tokenFile(t, "a-cluster-token-of-the-test"), tokenFile(t, "an-admin-token-of-the-test")
	dir := filepath.Join(t.TempDir(), "data")
	master := func(more ...string) []string {
		return append([]string{
			"master", "--data", dir, "--http", "127.0.0.1:0", "--raft", "127.0.0.1:0", "--cluster-token-file", token,
			"--admin-token-file", admin,
		}, more...)
	}
	worker := func(kind string, more ...string) []string {
		return append([]string{kind, "--data", dir, "--http", "127.0.0.1:0", "--masters", "http://127.0.0.1:1",
			"--cluster-token-file", token}, more...)
	}
	for name, row := range map[string]struct {
		message string
		args    []string
	}{
		"no cluster token": {"--cluster-token-file",
			[]string{"master", "--data", dir, "--admin-token-file", admin}},
		"no admin token": {"--admin-token-file",
			[]string{"master", "--data", dir, "--cluster-token-file", token}},
		"port in use":            {"in use", master("--http", taken.Addr().String())},
		"raft port in use":       {"in use", master("--raft", taken.Addr().String())},
		"not loopback":           {"--insecure", master("--http", "0.0.0.0:0")},
		"raft not loopback":      {"--insecure", master("--raft", "0.0.0.0:0")},
		"not among its peers":    {"--peers", master("--peers", "http://127.0.0.1:1,http://127.0.0.1:2")},
		"difficulty over cap":    {"difficulty", master("--difficulty", "60")},
		"unknown log level":      {"--log-level", master("--log-level", "loud")},
		"token in two words":     {"one value", master("--cluster-token-file", tokenFile(t, "two words"))},
		"short token":            {"has 5 characters", master("--cluster-token-file", tokenFile(t, "short"))},
		"token that all read":    {"mode 0644", master("--cluster-token-file", readable)},
		"storage without master": {"--masters", []string{"storage", "--data", dir, "--cluster-token-file", token}},
		"storage port in use":    {"in use", worker("storage", "--http", taken.Addr().String())},
		"storage not loopback":   {"--insecure", worker("storage", "--http", "0.0.0.0:0")},
		"miner port in use":      {"in use", worker("miner", "--http", taken.Addr().String())},
		"miner without threads":  {"--threads", worker("miner", "--threads", "0")},
		"no data": {"--data",
			[]string{"storage", "--masters", "http://127.0.0.1:1", "--cluster-token-file", token}},
	} {
		t.Run(name, func(t *testing.T) { fails(t, filepath.Dir(dir), row.message, row.args...) })
	}
}

package suite

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestUsageOfThisProcess(t *testing.T) {
	u, err := usageOf(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if u.rss < 1<<20 || u.peak < u.rss || u.cpu < 0 {
		t.Errorf("%+v", u)
	}
	if _, err := usageOf(1 << 30); err == nil {
		t.Error("a process that does not exist has a usage")
	}
}

func TestCPUSecondsOfAnyProgramName(t *testing.T) {
	const rest = " S 1 2 3 0 -1 4194560 5 6 7 8 150 50 0 0 20 0 1 0 100"
	for _, name := range []string{"(chainstore)", "(a b) c)", "(()"} {
		if s, err := cpuSeconds([]byte("42 " + name + rest)); err != nil || s != 2 {
			t.Errorf("%s: %v s, %v", name, s, err)
		}
	}
	for _, bad := range []string{"", "42 (x) S 1", "42 (x) S 1 2 3 0 -1 4194560 5 6 7 8 x 50 0"} {
		if s, err := cpuSeconds([]byte(bad)); err == nil {
			t.Errorf("%q: %v s", bad, s)
		}
	}
}

func TestKibibytes(t *testing.T) {
	status := []byte("Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t12 MB\n")
	if n, err := kibibytes(status, "VmHWM"); err != nil || n != 2<<20 {
		t.Error(n, err)
	}
	for _, name := range []string{"VmRSS", "VmSwap"} {
		if n, err := kibibytes(status, name); err == nil {
			t.Errorf("%s: %d", name, n)
		}
	}
}

func TestSizeOf(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "below"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, size := range map[string]int{"a": 10, "below/b": 5} {
		if err := os.WriteFile(filepath.Join(dir, name), make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if size, err := sizeOf(dir); err != nil || size != 15 {
		t.Errorf("%d bytes, %v", size, err)
	}
	if size, err := sizeOf(filepath.Join(dir, "none")); err != nil || size != 0 {
		t.Errorf("a folder that is not there: %d bytes, %v", size, err)
	}
}

func TestBusySeconds(t *testing.T) {
	if s, err := busySeconds([]byte("cpu  100 1 200 9999 8888 3 50 46 77 0\ncpu0 1 2 3 4 5 6 7 8 0 0\n")); err != nil ||
		s != 4 {
		t.Error(s, err)
	}
	for _, bad := range []string{"", "cpu  1 2 3", "cpu  1 2 3 4 5 6 7 x 0 0", "cpu0 1 2 3 4 5 6 7 8 0 0"} {
		if s, err := busySeconds([]byte(bad)); err == nil {
			t.Errorf("%q: %v s", bad, s)
		}
	}
	used, err := processes{{name: "again", pid: os.Getpid()}}.cpu()
	if err != nil || len(used) != 3 || used[other] < 0 {
		t.Error(used, err)
	}
}

func TestCoresOfGroups(t *testing.T) {
	p := processes{{group: "master", name: "master-1"}, {group: "master", name: "master-2"}, {group: "miner",
		name: "miner-1"}}
	before := map[string]float64{self: 1, other: 5, "master-1": 1, "master-2": 2, "miner-1": 3}
	after := map[string]float64{self: 2, other: 4, "master-1": 2, "master-2": 5, "miner-1": 3}
	got := p.cores(before, after, 2*time.Second)
	if len(got) != 4 || got["master"] != 2 || got["miner"] != 0 || got[self] != 0.5 || got[other] != 0 {
		t.Error(got)
	}
}

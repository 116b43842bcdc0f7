package suite

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ticksPerSecond is the unit of CPU times in /proc, USER_HZ: 100 on every Linux that Go runs on.
const ticksPerSecond = 100

// usage is the resource usage of a process.
type usage struct {
	rss, peak uint64  // resident memory now and at its peak, in bytes
	cpu       float64 // seconds, user and system, since it started
}

// usageOf reads a process's usage from /proc.
func usageOf(pid int) (usage, error) {
	var u usage
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	status, err := os.ReadFile(filepath.Join(dir, "status"))
	if err != nil {
		return u, err
	}
	if u.rss, err = kibibytes(status, "VmRSS"); err != nil {
		return u, err
	}
	if u.peak, err = kibibytes(status, "VmHWM"); err != nil {
		return u, err
	}
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return u, err
	}
	u.cpu, err = cpuSeconds(stat)
	return u, err
}

// kibibytes finds a line like "VmRSS:	   12345 kB" in /proc/PID/status and returns the number of bytes.
func kibibytes(status []byte, name string) (uint64, error) {
	for line := range bytes.Lines(status) {
		rest, ok := bytes.CutPrefix(line, []byte(name+":"))
		if !ok {
			continue
		}
		fields := strings.Fields(string(rest))
		if len(fields) != 2 || fields[1] != "kB" {
			return 0, fmt.Errorf("line %q of /proc/PID/status cannot be parsed", line)
		}
		n, err := strconv.ParseUint(fields[0], 10, 64)
		return n << 10, err
	}
	return 0, fmt.Errorf("/proc/PID/status has no line %s: the process has ended", name)
}

// cpuSeconds reads user and system time from /proc/PID/stat, proc_pid_stat(5): fields 14 and 15. The name of the
// program, field 2, is in parentheses and may contain any byte.
func cpuSeconds(stat []byte) (float64, error) {
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc/PID/stat cannot be parsed: %.100q", stat)
	}
	user, err := strconv.ParseUint(fields[11], 10, 64)
	if err != nil {
		return 0, err
	}
	system, err := strconv.ParseUint(fields[12], 10, 64)
	return float64(user+system) / ticksPerSecond, err
}

// Names that always exist: this process, which is the load generator, and everything else on the machine, work of the
// kernel that belongs to no process included.
const (
	self  = "load"
	other = "other"
)

// process is a process under test.
type process struct {
	group string // such as "master"
	name  string // unique among the processes under test, such as "master-1"
	pid   int
	leads bool // the group of masters or of etcd's members, when the scenario begins
}

// processes are the processes under test.
type processes []process

// leading returns the processes, with a mark at the one with that name.
func (p processes) leading(name string) processes {
	marked := slices.Clone(p)
	for i := range marked {
		marked[i].leads = marked[i].name == name
	}
	return marked
}

// cpu returns the processor seconds that each process has used by its name, self and other included.
func (p processes) cpu() (map[string]float64, error) {
	used := map[string]float64{}
	u, err := usageOf(os.Getpid())
	if err != nil {
		return nil, err
	}
	used[self] = u.cpu
	for _, one := range p {
		u, err := usageOf(one.pid)
		if err != nil {
			return nil, fmt.Errorf("%s, process %d: %w", one.name, one.pid, err)
		}
		used[one.name] = u.cpu
	}
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return nil, err
	}
	all, err := busySeconds(stat)
	if err != nil {
		return nil, err
	}
	for _, seconds := range used {
		all -= seconds
	}
	used[other] = all
	return used, nil
}

// busySeconds reads from /proc/stat how long all processors together have been busy, proc_stat(5): the first line
// without idle, iowait, and guest times, which are part of user times.
func busySeconds(stat []byte) (float64, error) {
	line, _, _ := bytes.Cut(stat, []byte("\n"))
	fields := strings.Fields(string(line))
	if len(fields) < 9 || fields[0] != "cpu" {
		return 0, fmt.Errorf("/proc/stat cannot be parsed: %.100q", line)
	}
	var ticks uint64
	for i, field := range fields[1:9] {
		n, err := strconv.ParseUint(field, 10, 64)
		if err != nil {
			return 0, err
		}
		if i != 3 && i != 4 {
			ticks += n
		}
	}
	return float64(ticks) / ticksPerSecond, nil
}

// cores returns how many cores each group kept busy between two samples.
func (p processes) cores(before, after map[string]float64, elapsed time.Duration) map[string]float64 {
	busy := map[string]float64{self: 0, other: 0}
	add := func(group, name string) {
		busy[group] += max(0, after[name]-before[name]) / elapsed.Seconds()
	}
	add(self, self)
	add(other, other)
	for _, one := range p {
		add(one.group, one.name)
	}
	return busy
}

// resetPeak resets the peak of a process's resident memory: proc_pid_clear_refs(5).
func resetPeak(pid int) error {
	return os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0)
}

// sizeOf returns the size of all files below a folder, in bytes. Files that vanish in the meantime are ignored.
func sizeOf(dir string) (uint64, error) {
	var size uint64
	err := filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if os.IsNotExist(err) {
			return nil
		}
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if os.IsNotExist(err) {
			return nil
		}
		if err != nil {
			return err
		}
		size += uint64(info.Size())
		return nil
	})
	return size, err
}

package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/chainstore/chainstore/e2e/powercut"
	"github.com/chainstore/chainstore/internal/devcluster"
	"github.com/chainstore/chainstore/wire"
)

// syncedKinds lists the kinds of files and folders that each kind of role syncs, in the order in which
// TestFailedSyncOfEachFile lets their first sync fail. The names of folders end in a slash, and "./" is the data
// folder. A role syncs those of firstSynced only when it starts with an empty folder.
var (
	firstSynced = map[devcluster.Kind][]string{
		devcluster.KindMaster:  {"raft.db.new", "starts", "log.new/", "log.new/mark", "log.new/segments"},
		devcluster.KindStorage: {"identity.json", "running"},
		devcluster.KindMiner:   {"identity.json", "reserve"},
	}
	syncedKinds = map[devcluster.Kind][]string{
		devcluster.KindMaster: {"./", "failed-sync", "log/", "log/mark", "log/N.wal", "log/segments", "damaged/",
			"damaged/N.wal-N", "master.json", "raft.db", "reserve", "snapshots/", "snapshots/N/",
			"snapshots/N/meta.sum", "snapshots/N.tmp/meta.json", "snapshots/N.tmp/state.bin"},
		devcluster.KindStorage: {"./", "failed-sync", "fence", "inbox/", "inbox/N.block", "index", "quarantine/",
			"quarantine/N.seg-block-N.N", "quarantine/N.seg-from-N.N", "repair", "reserve", "segments/",
			"segments/N.seg", "segments/N.seg.new", "starts", "tiles/", "tiles/N", "tiles/synced"},
		devcluster.KindMiner: {"./", "failed-sync", "fence", "starts"},
	}
)

// syncedInRepair matches the kinds that a storage node syncs only in a repair.
var syncedInRepair = regexp.MustCompile(`^(inbox|quarantine)/|^repair$`)

// TestFailedSyncOfEachFile lets the first sync of each kind of file and folder of each role fail. The role ends and is
// started again, and then the power of all roles is cut and they are started once more. Only what was synced is left.
// Nothing that was acknowledged may be lost, and what is served must be right.
//
// There is one master, so no other one has what it loses. A storage node must have the blocks that it had reported: see
// powered.checkHeight.
func TestFailedSyncOfEachFile(t *testing.T) {
	needsTime(t, "real processes")
	needsFilteredSyncs(t)
	logSettings(t)
	for i := range firstSynced[devcluster.KindMaster] { // other roles have fewer, so some of theirs come again
		p := startFailing(t, i)
		o := newOracle()
		l := p.startLoad(o)
		l.more(some)
		if i == 1 {
			p.failEach(l)
		} else {
			p.cut(true)
		}
		l.more(some / 4)
		l.end()
		p.verify(o)
		p.allEnded()
		p.checkSynced()
	}
}

// needsFilteredSyncs skips a test if the syncs of a role cannot be decided, or not be traced.
func needsFilteredSyncs(t *testing.T) {
	t.Helper()
	socket := listenUnix(t, filepath.Join(t.TempDir(), "syncs"))
	line, err := powercut.FilteredCommand(os.DevNull, socket.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	decided := make(chan error, 1)
	go func() { decided <- powercut.DecideSyncs(socket, func(string) bool { return false }) }()
	line = append(line, "true")
	if out, err := exec.Command(line[0], line[1:]...).CombinedOutput(); err != nil {
		t.Skipf("NO FAILED SYNCS: the roles cannot run under seccomp and strace: %v: %s", err, out)
	}
	if err := <-decided; err != nil {
		t.Fatal(err)
	}
}

// listenUnix listens until the test ends.
func listenUnix(t *testing.T, path string) *net.UnixListener {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// startFailing starts a cluster of one master, two storage nodes and a miner. The first start of each kind of role ends
// because of the failed sync that is number i of firstSynced, or of a number that is left over.
func startFailing(t *testing.T, i int) *powered {
	t.Helper()
	p, topology := preparedPowered(t, func(topology *devcluster.Topology) {
		smallSegments(topology)
		topology.Masters, topology.Storages = 1, 2
	})
	var err error
	if p.Cluster, err = devcluster.Prepare(topology, p.program); err != nil {
		t.Fatal(err)
	}
	p.running = true
	for _, r := range p.victims() {
		kind := firstSynced[r.Kind][i%len(firstSynced[r.Kind])]
		p.followFailing(r, kind)
		p.awaitFailed(r, kind)
		p.again(r.Name)
		p.kill(r.Name)
		p.ended(r.Name)
	}
	p.stop()
	for name := range p.disks {
		if p.failedSyncs[name] {
			p.cutFolder(name, true)
		}
		p.follow(name)
	}
	topology.Adjust = func(n int, r *devcluster.Role) {
		p.traced(n, r)
		r.AfterFailedSync = p.failedSyncs[r.Name]
	}
	p.begin(topology)
	return p
}

// victims returns one role of each kind.
func (p *powered) victims() []devcluster.Role {
	var list []devcluster.Role
	for _, r := range p.Topology().Roles() {
		if strings.HasSuffix(r.Name, "-1") {
			list = append(list, r)
		}
	}
	return list
}

// failEach lets the first sync of each of syncedKinds fail. After one of each kind of role, the power is cut.
func (p *powered) failEach(l *load) {
	p.t.Helper()
	for i, failed := 0, true; failed; i++ {
		failed = false
		for _, r := range p.victims() {
			if kinds := syncedKinds[r.Kind]; i < len(kinds) {
				p.failFirst(r, kinds[i])
				failed = true
			}
		}
		l.more(some / 10)
		p.cut(true)
	}
}

// failFirst lets the first sync of a kind of file fail, waits until the role has ended, and starts it again.
func (p *powered) failFirst(r devcluster.Role, kind string) {
	p.t.Helper()
	if r.Kind == devcluster.KindStorage && syncedInRepair.MatchString(kind) {
		p.failFirstInRepair(r, kind)
		return
	}
	p.kill(r.Name)
	p.ended(r.Name)
	switch {
	case kind == "reserve":
		if err := os.Remove(filepath.Join(r.Data, "reserve")); err != nil {
			p.t.Fatal(err)
		}
		p.load(r.Name)
	case strings.HasPrefix(kind, "damaged/"):
		p.tearLog(r.Data)
		p.load(r.Name)
	}
	p.followFailing(r, kind)
	p.awaitFailed(r, kind)
	p.again(r.Name)
}

// tearLog adds the beginning of a batch to a master's log, as a kill during an append leaves it. The next start copies
// it aside.
func (p *powered) tearLog(data string) {
	p.t.Helper()
	segments, err := filepath.Glob(filepath.Join(data, "log", "*.wal"))
	if err != nil || len(segments) == 0 {
		p.t.Fatal(segments, err)
	}
	path := slices.Max(segments)
	content, err := os.ReadFile(path)
	if err != nil {
		p.t.Fatal(err)
	}
	end := (len(bytes.TrimRight(content, "\x00")) + 7) / 8 * 8
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		p.t.Fatal(err)
	}
	_, err = file.WriteAt([]byte{1, 0, 0, 0, 99, 0, 0, 0}, int64(end)) // the head of an entry of 99 bytes
	if err := errors.Join(err, file.Close()); err != nil {
		p.t.Fatal(err)
	}
}

// failFirstInRepair is failFirst for a kind of file that is synced in a repair. It damages a segment for that, again if
// the repair has ended without such a file, as when no block has arrived meanwhile. In the end the node is repaired.
func (p *powered) failFirstInRepair(r devcluster.Role, kind string) {
	p.t.Helper()
	p.expectDamage = true
	damaged := &damaged{cluster: p.cluster, name: r.Name}
	check := func(n wire.NodeIntegrity) {
		if _, err := p.admin().CheckStorage(p.t.Context(), n.ID); err != nil {
			p.t.Fatal(err)
		}
	}
	for ended := false; !ended; {
		before := p.integrity()
		was := nodeAt(before, r.URL())
		p.kill(r.Name)
		p.ended(r.Name)
		folder := damaged.disk()
		folder.acked = was.Height
		damageFor(kind).do(folder)
		p.load(r.Name)
		p.followFailing(r, kind)
		check(was)
		p.await(r.Name+" to end or to be repaired", func() string {
			if ended = !p.Alive(r.Name); ended {
				return ""
			}
			_, why := damaged.unhealed(before, r.URL(), was)
			return why
		})
	}
	p.awaitFailed(r, kind)
	p.again(r.Name)
	p.awaitComplete(2)
	before := p.integrity()
	was := nodeAt(before, r.URL())
	check(was)
	damaged.awaitHealed(before, r.URL(), was)
}

// damageFor returns damage whose repair syncs a kind of file.
func damageFor(kind string) damage {
	name := "segment: a bit in a payload"
	if strings.Contains(kind, "seg-from") { // what is behind the last whole block
		name = "segment: the last one cut mid-frame"
	}
	return damages[slices.IndexFunc(damages, func(d damage) bool { return d.name == name })]
}

// awaitFailed waits until a role has ended because of a failed sync, and checks of which kind of file that was.
func (p *powered) awaitFailed(r devcluster.Role, kind string) {
	p.t.Helper()
	p.awaitFailedSync(r.Name)
	if got := kindOf(p.disks[r.Name].FirstFailed()); got != kind {
		p.t.Errorf("%s: the first sync that failed was that of %q, want %q", r.Name, got, kind)
	}
}

// followFailing starts a role that is not running. Its first sync of a kind of file fails.
func (p *powered) followFailing(r devcluster.Role, kind string) {
	p.t.Helper()
	p.t.Logf("the first sync of %s of %s fails", kind, r.Name)
	socket := listenUnix(p.t, filepath.Join(p.dir, fmt.Sprintf("syncs-%d", p.random.Uint32())))
	var err error
	if r.Enter, err = powercut.FilteredCommand(p.pipe(r.Name), socket.Addr().String()); err != nil {
		p.t.Fatal(err)
	}
	var failed atomic.Bool
	p.decisions.Go(func() {
		err := powercut.DecideSyncs(socket, func(path string) bool {
			rel, err := filepath.Rel(r.Data, path)
			if err != nil || strings.HasPrefix(rel, "..") {
				return false
			}
			if info, err := os.Stat(path); err == nil && info.IsDir() {
				rel += "/"
			}
			return kindOf(rel) == kind && !failed.Swap(true)
		})
		if err != nil {
			p.t.Errorf("decide the syncs of %s: %v", r.Name, err)
		}
	})
	p.follow(r.Name)
	r.AfterFailedSync = p.failedSyncs[r.Name]
	if err := p.StartAs(r); err != nil {
		p.t.Fatal(err)
	}
}

// kindOf returns the kind of a file or folder that a role syncs, which is named relative to the role's data folder.
func kindOf(name string) string {
	folder, file := path.Split(name)
	if hidden, temporary, ok := strings.Cut(file, ".tmp-"); ok && numbers.FindString(temporary) == temporary {
		file = strings.TrimPrefix(hidden, ".")
	}
	return numbers.ReplaceAllString(folder+file, "N")
}

// checkSynced checks that the roles, which have ended, have synced no kinds of files but the listed ones.
func (p *powered) checkSynced() {
	p.t.Helper()
	for _, r := range p.Topology().Roles() {
		listed := append(slices.Clone(firstSynced[r.Kind]), syncedKinds[r.Kind]...)
		for _, name := range slices.Sorted(maps.Keys(p.synced[r.Kind])) {
			if kind := kindOf(name); !slices.Contains(listed, kind) {
				p.t.Errorf("%s has synced %s: no sync of such a file has failed; add %s to syncedKinds",
					r.Name, name, kind)
			}
		}
	}
}

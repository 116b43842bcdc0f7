package e2e

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/chainstore/chainstore/e2e/powercut"
	"github.com/chainstore/chainstore/internal/devcluster"
	"github.com/chainstore/chainstore/storagenode/audit"
)

// powerCuts is the number of power cuts of TestPowerCuts.
const powerCuts = 4

// TestPowerCuts cuts the power of all roles of a cluster under load, after some of them were killed and started again,
// or a sync of one of them had failed. The data folders then have only what was synced, and, by a seed, some of the
// rest. Nothing that was acknowledged is lost, by any file of any role: the folders are computed from the system calls
// of the processes.
func TestPowerCuts(t *testing.T) {
	line := append(powercut.Command(os.DevNull, ""), "true")
	if out, err := exec.Command(line[0], line[1:]...).CombinedOutput(); err != nil {
		t.Skipf("NO POWER CUTS: the roles cannot be traced by strace: %v: %s", err, out)
	}
	logSettings(t)
	p, topology := preparedPowered(t, smallSegments)
	for name := range p.disks {
		p.follow(name)
	}
	c := p.cluster
	c.begin(topology)
	o := newOracle()
	l := c.startLoad(o)
	for n := range powerCuts {
		l.more(some / 2)
		if n%2 == 1 {
			p.failSync()
			l.more(some / 4)
		}
		if n == 2 {
			p.repairSegment()
		}
		p.killSome()
		if p.random.IntN(2) == 0 {
			l.more(some / 4)
		}
		p.cut(n/2%2 == 0)
	}
	l.more(some / 2)
	l.end()
	c.verify(o)
	p.allEnded()
	p.checkKinds()
	p.checkSynced()
}

// powered is a cluster whose folders are also kept as a power cut would leave them.
type powered struct {
	*cluster
	disks  map[string]*powercut.Disk // by role
	traces map[string]chan error     // the ends of the traces that are being replayed, by role
	kinds  map[string]bool           // of files that were made
	random *rand.Rand

	synced    map[devcluster.Kind]map[string]bool // files and folders that the roles of a kind have synced
	decisions sync.WaitGroup                      // about syncs
}

// preparedPowered prepares a cluster all of whose roles are traced.
func preparedPowered(t *testing.T, change func(*devcluster.Topology)) (*powered, devcluster.Topology) {
	t.Helper()
	c, topology := prepared(t, change)
	c.program = altered(t, "early-snapshots")
	p := &powered{cluster: c, disks: map[string]*powercut.Disk{}, traces: map[string]chan error{},
		kinds: map[string]bool{}, synced: map[devcluster.Kind]map[string]bool{},
		random: rand.New(rand.NewPCG(settings.seed, 0))}
	t.Cleanup(p.decisions.Wait)
	for _, r := range topology.Roles() {
		p.disks[r.Name] = powercut.New(r.Data)
		if err := unix.Mkfifo(p.pipe(r.Name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	topology.Adjust = p.traced
	return p, topology
}

// traced makes a role run under strace.
func (p *powered) traced(_ int, r *devcluster.Role) { r.Enter = powercut.Command(p.pipe(r.Name), "") }

// pipe returns the path of the pipe for the system calls of a role.
func (p *powered) pipe(name string) string { return filepath.Join(p.dir, name+".calls") }

// follow replays the system calls of the next process of a role until it has ended. traced is closed when the process
// is traced. It must not be killed before.
func (p *powered) follow(name string) (traced <-chan struct{}) {
	ended, opened := make(chan error, 1), make(chan struct{})
	disk, pipe := p.disks[name], p.pipe(name)
	p.traces[name] = ended
	go func() {
		trace, err := os.Open(pipe)
		close(opened)
		if err == nil {
			err = disk.Replay(trace)
			_, rest := io.Copy(io.Discard, trace) // after an error the process must go on
			err = errors.Join(err, rest, trace.Close())
		}
		ended <- err
	}()
	return opened
}

// ended waits for the end of a role's trace after the role has ended, and checks that the model has followed.
func (p *powered) ended(name string) {
	p.t.Helper()
	if err := cmp.Or(<-p.traces[name], p.disks[name].Compare()); err != nil {
		p.t.Fatalf("the system calls of %s: %v", name, err)
	}
	kind := roleOf(p.Topology(), name).Kind
	if p.synced[kind] == nil {
		p.synced[kind] = map[string]bool{}
	}
	for _, file := range p.disks[name].Synced() {
		p.synced[kind][file] = true
	}
}

// allEnded is ended for all roles.
func (p *powered) allEnded() {
	p.t.Helper()
	for name := range p.disks {
		p.ended(name)
	}
}

// load takes over changes that the test has made to the folder of a role that does not run.
func (p *powered) load(name string) {
	p.t.Helper()
	p.note(name)
	var err error
	if p.disks[name], err = powercut.Load(roleOf(p.Topology(), name).Data); err != nil {
		p.t.Fatal(err)
	}
}

// again starts roles that have ended.
func (p *powered) again(names ...string) {
	p.t.Helper()
	for _, name := range names {
		traced := p.follow(name)
		p.launch(name)
		<-traced
	}
}

// all lists the roles in random order.
func (p *powered) all() []string {
	names := slices.Sorted(maps.Keys(p.disks))
	p.random.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	return names
}

// killSome kills up to all roles at the same time and starts them again.
func (p *powered) killSome() {
	p.t.Helper()
	names := p.all()
	names = names[:1+p.random.IntN(len(names))]
	p.t.Logf("kill and start %q", names)
	p.kill(names...)
	for _, name := range names {
		p.ended(name)
	}
	p.again(names...)
}

// failSync lets all syncs of a master or a storage node fail from a random one on. The role ends, and starts again.
func (p *powered) failSync() {
	p.t.Helper()
	names := slices.DeleteFunc(p.all(), func(name string) bool { return name == "miner-1" })
	name, from := names[0], 1+p.random.IntN(40)
	p.t.Logf("the syncs of %s fail from number %d on", name, from)
	p.kill(name)
	p.ended(name)
	p.follow(name)
	r := roleOf(p.Topology(), name)
	r.AfterFailedSync = p.failedSyncs[name]
	r.Enter = powercut.Command(p.pipe(name), fmt.Sprintf("fsync,fdatasync:error=EIO:when=%d+", from))
	if err := p.StartAs(r); err != nil {
		p.t.Fatal(err)
	}
	p.awaitFailedSync(name)
	p.again(name)
	p.awaitComplete(3)
}

// awaitFailedSync waits until a role has ended by itself. From now on it is started as by an operator who accepts the
// failed sync.
func (p *powered) awaitFailedSync(name string) {
	p.t.Helper()
	p.await(name+" to end", func() string {
		if p.Alive(name) {
			return "it runs"
		}
		return ""
	})
	if err := p.Forget(name); err == nil {
		p.t.Errorf("%s ended well", name)
	}
	p.ended(name)
	p.failedSyncs[name] = true
}

// numbers matches the parts of file names that differ between files of a kind.
var numbers = regexp.MustCompile(`[0-9a-f]*[0-9][0-9a-f-]*`)

// note adds the kinds of the files that a role has made.
func (p *powered) note(name string) {
	kind := roleOf(p.Topology(), name).Kind
	for _, file := range p.disks[name].Made() {
		p.kinds[string(kind)+": "+numbers.ReplaceAllString(file, "N")] = true
	}
}

// someKinds lists kinds of files that every run makes.
var someKinds = []string{
	"master: master.json", "master: raft.db", "master: starts", "master: reserve", "master: failed-sync",
	"master: log.new/mark", "master: log.new/N.wal", "master: log/segments",
	"master: snapshots/N.tmp/state.bin", "master: snapshots/N.tmp/meta.json", "master: snapshots/N/meta.sum",
	"storage: identity.json", "storage: starts", "storage: fence", "storage: running", "storage: reserve",
	"storage: failed-sync", "storage: segments/N.seg", "storage: segments/N.seg.new", "storage: index",
	"storage: tiles/N", "storage: tiles/synced", "storage: records/N.run", "storage: inbox/N.block",
	"storage: quarantine/N.seg-block-N.N", "storage: repair",
	"miner: identity.json", "miner: starts", "miner: fence", "miner: reserve",
}

// checkKinds checks that the roles, which have ended, have made files of these kinds.
func (p *powered) checkKinds() {
	p.t.Helper()
	for name := range p.disks {
		p.note(name)
	}
	for _, kind := range someKinds {
		if !p.kinds[kind] {
			p.t.Errorf("no file was made of the kind %s; made: %q", kind, slices.Sorted(maps.Keys(p.kinds)))
		}
	}
}

// repairSegment alters a byte in the first segment of a storage node and waits until it has been repaired.
func (p *powered) repairSegment() {
	p.t.Helper()
	name := p.names(devcluster.KindStorage)[p.random.IntN(3)]
	role, before := roleOf(p.Topology(), name), p.integrity()
	was := nodeAt(before, role.URL())
	p.t.Logf("alter and repair a segment of %s", name)
	p.kill(name)
	p.ended(name)
	damaged := &damaged{cluster: p.cluster, name: name}
	damages[0].do(damaged.disk())
	p.load(name)
	p.again(name)
	if _, err := p.admin().CheckStorage(p.t.Context(), was.ID); err != nil {
		p.t.Fatal(err)
	}
	damaged.awaitHealed(before, role.URL(), was)
	p.expectDamage = true
}

// cut kills all roles at the same time, replaces their folders by what a power cut leaves, and starts them again. If
// strict, only what was synced is left.
func (p *powered) cut(strict bool) {
	p.t.Helper()
	before, err := p.status()
	if err != nil {
		p.t.Logf("no status before the power cut: %v", err)
	}
	names := p.all()
	p.kill(names...)
	for _, name := range names {
		p.ended(name)
		p.cutFolder(name, strict)
	}
	p.t.Logf("power cut, only what was synced is left: %v", strict)
	for _, n := range before.Storages {
		p.checkHeight(p.nameOf(n.URL), n.Height)
	}
	p.again(names...)
	p.awaitComplete(p.Topology().Storages)
}

// cutFolder replaces the folder of a role, which does not run, by what a power cut leaves.
func (p *powered) cutFolder(name string, strict bool) {
	p.t.Helper()
	data := roleOf(p.Topology(), name).Data
	if err := os.Rename(data, fmt.Sprintf("%s.before-%d", data, p.random.Uint32())); err != nil {
		p.t.Fatal(err)
	}
	if err := p.disks[name].Write(data, func() bool { return !strict && p.random.IntN(2) == 0 }); err != nil {
		p.t.Fatal(err)
	}
	p.load(name)
}

// checkHeight checks that the folder of a storage node, which does not run, has the blocks that the node had reported.
// Otherwise the others would send them, and nobody would see the loss.
func (p *powered) checkHeight(name string, reported uint64) {
	p.t.Helper()
	found, err := audit.Verify(context.Background(), roleOf(p.Topology(), name).Data, nil)
	if err != nil || found.Height < reported {
		p.t.Errorf("%s reported %d blocks, and has %d after a power cut: %v", name, reported, found.Height, err)
	}
}

package suite

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"github.com/chainstore/chainstore/storagenode"
	"github.com/chainstore/chainstore/wire"
)

// maxChainMiB bounds the chain that is checked and repaired. In a repair it is one piece.
const maxChainMiB = 8 << 10

// memoryChains are the lengths of the chains for which memory is measured, in quarters of the length of the others.
var memoryChains = [...]uint64{1, 8}

// memoryDir makes a folder in memory. A check bypasses the page cache, so on a disk it would measure the disk and not
// the processor. If there is no such file system, or no room in it, the folder is on the disk.
func (b *bench) memoryDir(bytes uint64) (dir string, remove func() error, err error) {
	const shm = "/dev/shm"
	var fs syscall.Statfs_t
	if err := syscall.Statfs(shm, &fs); err == nil && fs.Bavail*uint64(fs.Bsize) > 2*bytes {
		if dir, err := os.MkdirTemp(shm, "chainstore-bench-*"); err == nil {
			b.note("check-*: the chain is in memory (%s); from a disk that is slower than the hash, "+
				"a check is as fast as the disk.", shm)
			return dir, func() error { return os.RemoveAll(dir) }, nil
		}
	}
	b.note("check-*: the chain is on the disk and is read past the page cache.")
	dir = filepath.Join(b.dir, "check")
	return dir, func() error { return os.RemoveAll(dir) }, os.Mkdir(dir, 0o700)
}

// build makes a chain and reports its progress.
func (b *bench) build(ctx context.Context, what, dir string, payloads uint64) (built, error) {
	return build(ctx, dir, payloads, func(done uint64) {
		b.tell(fmt.Sprintf("%s: making a chain: %s of %s MiB", what, mebibytes(done), mebibytes(payloads)), false)
	})
}

func (b *bench) chainBytes() uint64 { return uint64(b.cfg.ChainMiB) << 20 }

// lap is one run over a whole chain. It measures its own time, without its preparation and clean-up.
type lap func(ctx context.Context, run int) (time.Duration, map[string]float64, error)

// laps measures a scenario by runs over a chain, after one more to warm up.
func (b *bench) laps(ctx context.Context, s scenario, c built, one lap) error {
	r := s.result()
	r.Cores = map[string]float64{}
	var rates, through, cpu []float64
	for i := range b.cfg.Runs + 1 {
		if b.progress(s, "run %d of %d", i, b.cfg.Runs); i == 0 {
			b.progress(s, "warming up")
		}
		took, used, err := one(ctx, i)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		if i == 0 {
			continue
		}
		for name, n := range used {
			r.Cores[name] += n / float64(b.cfg.Runs)
		}
		cpu = append(cpu, underTest(used)*took.Seconds()*1e6/float64(c.records()))
		rates = append(rates, float64(c.records())/took.Seconds())
		through = append(through, float64(c.payloads())/(1<<20)/took.Seconds())
		r.Completed++
	}
	r.Rate = newSpread(rates)
	throughput := newSpread(through)
	r.Throughput = &throughput
	perRecord := newSpread(cpu)
	r.CPU = &perRecord
	b.done(s, r)
	return nil
}

// underTest is the sum of the cores that the processes under test kept busy. Without others, this process is one.
func underTest(used map[string]float64) float64 {
	sum := 0.0
	for name, n := range used {
		if name != other && (name != self || len(used) == 2) {
			sum += n
		}
	}
	return sum
}

// timed runs the part of a lap that is measured. It returns the time and the cores that were busy.
func timed(p processes, do func() error) (time.Duration, map[string]float64, error) {
	before, err := p.cpu()
	if err != nil {
		return 0, nil, err
	}
	begin := time.Now()
	err = do()
	took := time.Since(begin)
	if err != nil {
		return 0, nil, err
	}
	after, err := p.cpu()
	if err != nil {
		return 0, nil, err
	}
	return took, p.cores(before, after, took), nil
}

// checks measures checks of one storage node in this process, by the same orders as a leader's, and the bare hash.
func (b *bench) checks(ctx context.Context, scenarios []scenario) (err error) {
	dir, remove, err := b.memoryDir(b.chainBytes())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()
	c, err := b.build(ctx, "check", filepath.Join(dir, "storage"), b.chainBytes())
	if err != nil {
		return err
	}
	for _, s := range scenarios {
		run := func(ctx context.Context, run int) (time.Duration, map[string]float64, error) { return hashLap(ctx, c) }
		if s.work == workCheck {
			run = func(ctx context.Context, run int) (time.Duration, map[string]float64, error) {
				return checkLap(ctx, c, s.clients, run)
			}
		}
		if err := b.laps(ctx, s, c, run); err != nil {
			return err
		}
	}
	return nil
}

// hashLap hashes as many payloads as the chain has, one call each, in one goroutine.
func hashLap(ctx context.Context, c built) (time.Duration, map[string]float64, error) {
	block := make([]byte, blobsPerBlock*blobSize)
	return timed(nil, func() error {
		var last [sha256.Size]byte
		for range c.height {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			for at := 0; at < len(block); at += blobSize {
				last = sha256.Sum256(block[at : at+blobSize])
			}
			copy(block, last[:]) // use the result
		}
		return nil
	})
}

// checkLap opens the node, checks its chain once, and closes it.
func checkLap(ctx context.Context, c built, threads, run int) (took time.Duration, used map[string]float64, err error) {
	n, err := storagenode.Open(storagenode.Config{Dir: c.dir, CheckThreads: threads})
	if err != nil {
		return 0, nil, err
	}
	defer func() { err = errors.Join(err, n.Close()) }()
	o := wire.CheckOrder{Check: fmt.Sprintf("run-%d", run), Height: c.height, Hash: c.hash}
	return timed(nil, func() error {
		return poll(ctx, func() (bool, error) {
			status, err := n.Check(ctx, o)
			if err != nil || status.Report == nil {
				return false, err
			}
			return true, clean(status.Report, c)
		})
	})
}

// repairs measures repairs between storage nodes in processes of their own. This process is their master.
func (b *bench) repairs(ctx context.Context, scenarios []scenario) (err error) {
	runtime.LockOSThread() // see child
	defer runtime.UnlockOSThread()
	dir := filepath.Join(b.dir, "repair")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	masters, err := newRegistry(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, masters.close()) }()
	p := &pair{bench: b, dir: dir, masters: masters}
	var c built
	for _, s := range scenarios {
		if c.height == 0 && s.work != workMemory {
			if c, err = b.build(ctx, s.name, filepath.Join(dir, "sender"), b.chainBytes()); err != nil {
				return err
			}
		}
		switch s.work {
		case workCopy:
			b.note("%s: one POST of the segments to a net/http server in this process, which writes them to a file "+
				"and syncs it once at the end.", s.name)
			err = b.laps(ctx, s, c, func(ctx context.Context, _ int) (time.Duration, map[string]float64,
				error) {
				return p.copyLap(ctx, c)
			})
		case workRepair:
			b.note("%s: two storage nodes in processes of their own; each block is verified on both, and durable on "+
				"the receiver.", s.name)
			err = b.laps(ctx, s, c, func(ctx context.Context, _ int) (time.Duration, map[string]float64, error) {
				took, used, _, err := p.fillLap(ctx, c)
				return took, used, err
			})
		case workMemory:
			err = p.memory(ctx, s)
		}
		if err != nil {
			return err
		}
	}
	if b.cfg.Keep {
		return nil
	}
	return os.RemoveAll(dir) // the cluster may need the room
}

// pair measures repairs from one node to another.
type pair struct {
	*bench
	dir     string
	masters *registry
}

func (p *pair) start(ctx context.Context, name string) (*storage, error) {
	return p.masters.startStorage(ctx, p.cfg.Program, filepath.Join(p.dir, name),
		filepath.Join(p.bench.dir, name+".log"))
}

// fillLap starts both nodes, fills the empty one from the one that has the chain, and returns the memory that it took.
func (p *pair) fillLap(ctx context.Context,
	c built) (took time.Duration, used map[string]float64, memory []Memory, err error) {
	sender, err := p.start(ctx, filepath.Base(c.dir))
	if err != nil {
		return 0, nil, nil, err
	}
	defer func() { err = errors.Join(err, sender.stop()) }()
	receiver, err := p.start(ctx, "receiver")
	if err != nil {
		return 0, nil, nil, err
	}
	defer func() {
		err = errors.Join(err, receiver.stop(), os.RemoveAll(filepath.Join(p.dir, "receiver")))
	}()
	g := processes{
		{group: "sender", name: "sender", pid: sender.cmd.Process.Pid},
		{group: "receiver", name: "receiver", pid: receiver.cmd.Process.Pid},
	}
	memory, err = watched(c, map[string]*storage{"receive": receiver, "send": sender}, []string{"receive", "send"},
		func() error {
			took, used, err = timed(g, func() error { return sender.fill(ctx, receiver, c) })
			return err
		})
	return took, used, memory, err
}

// watched runs do and returns the memory of the nodes before it and the peak during it.
func watched(c built, nodes map[string]*storage, names []string, do func() error) ([]Memory, error) {
	var all []Memory
	for _, name := range names {
		if err := resetPeak(nodes[name].cmd.Process.Pid); err != nil {
			return nil, err
		}
		u, err := usageOf(nodes[name].cmd.Process.Pid)
		if err != nil {
			return nil, err
		}
		all = append(all, Memory{Name: name, Chain: c.payloads(), IdleRSS: u.rss, Limit: memoryLimit})
	}
	if err := do(); err != nil {
		return nil, err
	}
	for i, name := range names {
		u, err := usageOf(nodes[name].cmd.Process.Pid)
		if err != nil {
			return nil, err
		}
		all[i].PeakRSS = u.peak
	}
	return all, nil
}

// memory measures the memory of checks and repairs of a short chain and of a long one.
func (p *pair) memory(ctx context.Context, s scenario) error {
	for i, quarters := range memoryChains {
		c, err := p.build(ctx, s.name, filepath.Join(p.dir, fmt.Sprintf("sender-%d", i+1)), p.chainBytes()*quarters/4)
		if err != nil {
			return err
		}
		p.progress(s, "a chain of %s MiB", mebibytes(c.payloads()))
		m, err := p.checkMemory(ctx, c)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		p.report.Memory = append(p.report.Memory, m...)
		if _, _, m, err = p.fillLap(ctx, c); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		p.report.Memory = append(p.report.Memory, m...)
		if p.cfg.Keep {
			continue
		}
		if err := os.RemoveAll(c.dir); err != nil {
			return err
		}
	}
	p.tell(fmt.Sprintf("%s: %d chains", s.name, len(memoryChains)), true)
	return nil
}

func (p *pair) checkMemory(ctx context.Context, c built) (m []Memory, err error) {
	s, err := p.start(ctx, filepath.Base(c.dir))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	return watched(c, map[string]*storage{"check": s}, []string{"check"},
		func() error { return s.check(ctx, "memory", c) })
}

// copyLap sends the files of the chain's blocks to a bare server, which writes them to one file.
func (p *pair) copyLap(ctx context.Context, c built) (took time.Duration, used map[string]float64, err error) {
	target := filepath.Join(p.dir, "copy")
	defer func() { err = errors.Join(err, os.RemoveAll(target)) }()
	paths, err := filepath.Glob(filepath.Join(c.dir, "segments", "*"))
	if err != nil {
		return 0, nil, err
	}
	var files []io.Reader
	var length int64
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			return 0, nil, err
		}
		defer f.Close() // only read
		info, err := f.Stat()
		if err != nil {
			return 0, nil, err
		}
		files = append(files, f)
		length += info.Size()
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, nil, err
	}
	server := &http.Server{ReadHeaderTimeout: 10 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if err := keep(target, r.Body, length); err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
			}
		})}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	defer func() {
		err = errors.Join(err, server.Close())
		if end := <-served; !errors.Is(end, http.ErrServerClosed) {
			err = errors.Join(err, end)
		}
	}()
	return timed(nil, func() error {
		return upload(ctx, "http://"+listener.Addr().String(), io.MultiReader(files...), length)
	})
}

// keep writes a body to a new file and syncs it.
func keep(path string, body io.Reader, length int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	n, err := io.Copy(f, body)
	if err == nil && n != length {
		err = fmt.Errorf("%d bytes came of %d", n, length)
	}
	return errors.Join(err, f.Sync(), f.Close())
}

// upload makes one request on a connection of its own.
func upload(ctx context.Context, url string, body io.Reader, length int64) error {
	transport := &http.Transport{DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, body)
	if err != nil {
		return err
	}
	request.ContentLength = length
	answer, err := transport.RoundTrip(request)
	if err != nil {
		return err
	}
	text, err := io.ReadAll(io.LimitReader(answer.Body, 1<<10))
	if err = errors.Join(err, answer.Body.Close()); err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("the bare server answered %s: %s", answer.Status, text)
	}
	return err
}

package storagenode

import (
	"path/filepath"
	"sync"
	"testing"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/storagenode/segment"
	"github.com/chainstore/chainstore/wire"
)

// readCounter counts the reads of files, by folder.
type readCounter struct {
	mu    sync.Mutex
	reads map[string]int
}

func (r *readCounter) open(path string, flag int) (segment.File, error) {
	f, err := segment.OpenFile(path, flag)
	return countedFile{f, r, filepath.Base(filepath.Dir(path))}, err
}

// take returns the counts, and starts again.
func (r *readCounter) take() map[string]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	reads := r.reads
	r.reads = map[string]int{}
	return reads
}

type countedFile struct {
	segment.File
	counter *readCounter
	folder  string
}

func (f countedFile) ReadAt(p []byte, at int64) (int, error) {
	f.counter.mu.Lock()
	f.counter.reads[f.folder]++
	f.counter.mu.Unlock()
	return f.File.ReadAt(p, at)
}

// TestOneReadPerRecord counts the reads of files for records whose leaf hashes the reader knows: one of the segment for
// each record, besides one for each 256 records of a block when the first of them is read.
func TestOneReadPerRecord(t *testing.T) {
	const blocks, count = 3, 300
	c := newTestChain(21)
	counter := &readCounter{reads: map[string]int{}}
	n := mustOpen(t, Config{AtRest: testKeys, Dir: memDir(t), open: counter.open})
	for range blocks {
		growFixed(t, c, count, 100)
	}
	c.putAll(t, n)
	upToDate(t, n)
	n.indexer.job.stop() // it reads the last header once more when it was woken
	n.crypter.stop()     // it looks for blocks in clear
	for _, want := range []int{blocks * (count + 2), blocks * count, blocks * count} {
		counter.take()
		for block := range uint64(blocks) {
			for i := range uint32(count) {
				at := wire.Place{Block: block, Offset: i * 7 % count}
				a := n.Read([]wire.Place{at}, 1, nil)[0]
				if string(a.Record) != string(c.blocks[block].Encoded(at.Offset)) || a.Path != nil {
					t.Fatalf("%+v: status %d, another record", at, a.Status)
				}
			}
		}
		got := counter.take()
		if got["segments"] != want || len(got) > 1 {
			t.Errorf("%v reads for %d records, want %d of segments", got, blocks*count, want)
		}
	}
}

// TestEndsThatWereReadWrong flips a bit in the table of ends of a block, reads a record, and flips the bit back, as if
// the disk had returned wrong bytes once. The record must be found again, although the table is kept in memory.
func TestEndsThatWereReadWrong(t *testing.T) {
	c := newTestChain(22)
	growFixed(t, c, 300, 100)
	n := mustOpen(t, Config{AtRest: testKeys, Dir: memDir(t)})
	c.putAll(t, n)
	path, p := segmentOf(t, n, 0)
	const offset = 5
	at := []wire.Place{{Block: 0, Offset: offset}}
	end := p.Offset + segment.FrameHeader + chain.HeaderSize + 4*offset + 3
	flip(t, path, end)
	if got := n.Read(at, 0, nil)[0].Status; got != wire.ReadBad {
		t.Errorf("with a wrong end: status %d", got)
	}
	flip(t, path, end)
	if a := n.Read(at, 0, nil)[0]; string(a.Record) != string(c.blocks[0].Encoded(offset)) {
		t.Errorf("with the right end: status %d", a.Status)
	}
	// What is in memory is good, and damage of the file afterwards does not hide the record.
	flip(t, path, end)
	if a := n.Read(at, 0, nil)[0]; string(a.Record) != string(c.blocks[0].Encoded(offset)) {
		t.Errorf("with a wrong end in the file only: status %d", a.Status)
	}
	// A check reads the file, and finds the damage. Reads then see what the check sees.
	report := c.checked(t, n, 1)
	if len(report.Bad) != 1 {
		t.Errorf("the check found %+v", report.Bad)
	}
	if got := n.Read(at, 0, nil)[0].Status; got != wire.ReadBad {
		t.Errorf("after the check: status %d", got)
	}
}

package storagenode

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/atrest"
	"github.com/chainstore/chainstore/storagenode/audit"
	"github.com/chainstore/chainstore/storagenode/segment"
	"github.com/chainstore/chainstore/wire"
)

// testKeys are the keys of the nodes of a test; nil for nodes that do not encrypt.
var testKeys *atrest.Ring

// keyLine returns a line with a key, always the same for a number.
func keyLine(number byte) string {
	key := ""
	for i := range byte(atrest.KeySize) {
		key += fmt.Sprintf("%02x", i*i*7+i*13+number*29)
	}
	return key + " key of a test\n"
}

// keyFile writes a file with the keys of some numbers.
func keyFile(t testing.TB, path string, numbers ...byte) {
	t.Helper()
	lines := ""
	for _, number := range numbers {
		lines += keyLine(number)
	}
	must(t, os.WriteFile(path, []byte(lines), 0o600))
}

// ring returns the keys of some numbers, and the path of their file.
func ring(t testing.TB, numbers ...byte) (*atrest.Ring, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keys")
	keyFile(t, path, numbers...)
	keys, err := atrest.Load(path)
	must(t, err)
	return keys, path
}

// withKeys has all nodes of a test encrypt.
func withKeys(t testing.TB) {
	t.Helper()
	keys, _ := ring(t, 1)
	testKeys = keys
	t.Cleanup(func() { testKeys = nil })
}

// offline returns the folder of a test's node for the offline verifier.
func offline(dir string) audit.Folder { return audit.Folder{Path: dir, AtRest: testKeys} }

// TestEncrypted runs the tests of faults, damage, crashes and repairs again with nodes that encrypt.
func TestEncrypted(t *testing.T) {
	withKeys(t)
	for name, test := range map[string]func(*testing.T){
		"TestKilledThenPowerCut": TestKilledThenPowerCut, "TestTornTail": TestTornTail,
		"TestRewriteFaults": TestRewriteFaults, "TestInbox": TestInbox, "TestFind": TestFind,
		"TestUnfinishedSegment": TestUnfinishedSegment, "TestLostBlocks": TestLostBlocks,
		"TestOneReadPerRecord": TestOneReadPerRecord, "TestBlockedNodeGoesOn": TestBlockedNodeGoesOn,
	} {
		t.Run(name, test)
	}
	if testing.Short() {
		return
	}
	for name, test := range map[string]func(*testing.T){
		"TestFaults": TestFaults, "TestDamageAfterCrash": TestDamageAfterCrash, "TestBitFlips": TestBitFlips,
		"TestSmallFilesAreWrittenAgain":          TestSmallFilesAreWrittenAgain,
		"TestHeadersBehindADamagedOne":           TestHeadersBehindADamagedOne,
		"TestSegmentGoneIndexThere":              TestSegmentGoneIndexThere,
		"TestLastSegmentGone":                    TestLastSegmentGone,
		"TestRebuild":                            TestRebuild,
		"TestDamagedBlockAndNoTiles":             TestDamagedBlockAndNoTiles,
		"TestDamagedLastBlock":                   TestDamagedLastBlock,
		"TestDerivedFiles":                       TestDerivedFiles,
		"TestRebuildFaults":                      TestRebuildFaults,
		"TestConfirmedLost":                      TestConfirmedLost,
		"TestExhausted":                          TestExhausted,
		"TestFullDisk":                           TestFullDisk,
		"TestExhaustedInRepair":                  TestExhaustedInRepair,
		"TestInboxOfOtherChain":                  TestInboxOfOtherChain,
		"TestInboxFaults":                        TestInboxFaults,
		"TestIndexFollowsTheChain":               TestIndexFollowsTheChain,
		"TestIndexAfterACrash":                   TestIndexAfterACrash,
		"TestNewerIndexIsLeftAlone":              TestNewerIndexIsLeftAlone,
		"TestEntriesOfAnyRun":                    TestEntriesOfAnyRun,
		"TestPutReadReopen":                      TestPutReadReopen,
		"TestConcurrentReads":                    TestConcurrentReads,
		"TestFewOpenFiles":                       TestFewOpenFiles,
		"TestManyPlaces":                         TestManyPlaces,
		"TestPutAll":                             TestPutAll,
		"TestReadFolder":                         TestReadFolder,
		"TestFillEmptyNode":                      TestFillEmptyNode,
		"TestHoles":                              TestHoles,
		"TestBlockedByDamage":                    TestBlockedByDamage,
		"TestCutStream":                          TestCutStream,
		"TestRepairAgainAfterCrash":              TestRepairAgainAfterCrash,
		"TestCheckOfABadSector":                  TestCheckOfABadSector,
		"TestCheckOfAFileThatCannotBeOpened":     TestCheckOfAFileThatCannotBeOpened,
		"TestStartWithABadSector":                TestStartWithABadSector,
		"TestStartWithoutRoom":                   TestStartWithoutRoom,
		"TestUncleanStartWithoutRoom":            TestUncleanStartWithoutRoom,
		"TestTornTailWithoutRoom":                TestTornTailWithoutRoom,
		"TestFailedSyncOfAStart":                 TestFailedSyncOfAStart,
		"TestRepairOfASegmentThatCannotBeOpened": TestRepairOfASegmentThatCannotBeOpened,
		"TestKilledOnAFullDisk":                  TestKilledOnAFullDisk,
		"TestStartThatCannotRead":                TestStartThatCannotRead,
		"TestVerifyBesideRunningNode":            TestVerifyBesideRunningNode,
		"TestVerifyForgery":                      TestVerifyForgery,
	} {
		t.Run(name, test)
	}
}

// TestEveryByteOfEncryptedFiles changes each byte of each encrypted segment. Every change must be found by a check and
// healed, and no altered record may be read.
func TestEveryByteOfEncryptedFiles(t *testing.T) {
	withKeys(t)
	c := newTestChain(21)
	for range 3 {
		c.grow(t, 2, 3)
	}
	const height = 3
	n := mustOpen(t, Config{AtRest: testKeys, Dir: memDir(t), SegmentBytes: 300})
	c.putAll(t, n)
	source := c.source(t)
	list, err := segment.List(n.dir.Segments())
	if err != nil || len(list) < 2 {
		t.Fatal(list, err)
	}
	for _, first := range list {
		path := n.segmentPath(first)
		good, err := os.ReadFile(path)
		must(t, err)
		start := firstFrame(t, n, first)
		for at := int64(0); at < int64(len(good)); at++ {
			if at > 200 && at < start && (at%4096 > 200 && at%4096 < 4080) && at%37 != 0 {
				continue // zeros of the header
			}
			if testing.Short() && at%11 != 0 {
				continue
			}
			data := bytes.Clone(good)
			data[at] ^= 1 << (at % 8)
			must(t, os.WriteFile(path, data, 0o600))
			for number := range uint64(height) {
				block := &c.blocks[number]
				for i, a := range n.Read([]wire.Place{{Block: number}, {Block: number, Offset: 1}}, 2, nil) {
					if a.Status == wire.ReadFound && !bytes.Equal(a.Record, block.Encoded(uint32(i))) {
						t.Fatalf("byte %d: an altered record of block %d is served", at, number)
					}
				}
			}
			r := c.checked(t, n, height)
			if len(r.Findings) != 1 || r.Unchecked != height || r.Other || r.Tiles != 0 {
				t.Fatalf("byte %d: %+v", at, r)
			}
			if at < start {
				if len(r.Bad) != 0 {
					t.Fatalf("byte %d of the header: %+v", at, r)
				}
			} else if len(r.Bad) != 1 || r.Bad[0].Len() != 1 || r.Findings[0].Block != r.Bad[0].From {
				t.Fatalf("byte %d: %+v", at, r)
			} else if at%8 == 3 {
				c.repair(t, source, n, height, r.Bad...)
				c.clean(t, n, height)
				good, err = os.ReadFile(path) // it has a new data key
				must(t, err)
				continue
			} else {
				must(t, os.WriteFile(path, good, 0o600))
			}
			if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, good) {
				t.Fatalf("byte %d is not healed: %v", at, err)
			}
		}
	}
	c.clean(t, n, height)
}

// firstFrame returns the offset of the first frame of a segment.
func firstFrame(t testing.TB, n *Node, first uint64) int64 {
	t.Helper()
	p, seg, ok := n.index.Get(first)
	if !ok || seg != first {
		t.Fatalf("block %d is in segment %d", first, seg)
	}
	return p.Offset
}

// TestBothHeadersDamaged destroys both copies of a header: its blocks are damaged, not those of other segments, and a
// repair brings them back.
func TestBothHeadersDamaged(t *testing.T) {
	withKeys(t)
	const height = 30
	c, cfg := filled(t, 5, height)
	n := mustOpen(t, cfg)
	path, _ := segmentOf(t, n, 10)
	span := segmentSpan(t, n, 10)
	mustClose(t, n)
	flip(t, path, 30)
	flip(t, path, 4096+30)
	n = mustOpen(t, cfg)
	r := c.checked(t, n, height)
	if len(r.Bad) != 1 || r.Bad[0] != span {
		t.Fatalf("%v is bad, want %v: %+v", r.Bad, span, r)
	}
	c.repairAll(t, c.source(t), n, height, r.Bad)
}

// TestMissingKey opens an encrypted folder without keys and with others. That must name the key, and must change
// nothing.
func TestMissingKey(t *testing.T) {
	withKeys(t)
	for _, what := range []string{"segments", "records", "inbox"} {
		c, cfg := filled(t, 6, 20)
		c.growTo(t, 25)
		n := mustOpen(t, cfg)
		n.indexer.await(t.Context(), c.statusAt(20).Size)
		if _, err := n.PutInbox(t.Context(), 23, c.blocks[23].Bytes()); err != nil {
			t.Fatal(err)
		}
		mustClose(t, n)
		for _, other := range []string{"segments", "records", "inbox"} {
			if other != what {
				remove(t, cfg.Dir, other)
			}
		}
		before := tree(t, cfg.Dir)
		others, _ := ring(t, 2, 3)
		for name, keys := range map[string]*atrest.Ring{"no keys": nil, "other keys": others} {
			wrong := cfg
			wrong.AtRest = keys
			_, err := Open(wrong)
			if !errors.Is(err, atrest.ErrNoKey) || errors.Is(err, ErrDamaged) ||
				!strings.Contains(err.Error(), testKeys.Current().String()) ||
				!strings.Contains(err.Error(), what+"/") {
				t.Errorf("%s, %s: %v", what, name, err)
			}
			if what == "segments" {
				if _, err := (audit.Folder{Path: cfg.Dir, AtRest: keys}).Verify(t.Context(), nil); !errors.Is(err,
					atrest.ErrNoKey) {
					t.Errorf("Verify with %s: %v", name, err)
				}
			}
		}
		if tree(t, cfg.Dir) != before {
			t.Errorf("%s: the folder was changed", what)
		}
	}
}

// TestSegmentOfAnotherKeyAppears replaces a segment of a running node with one of another key. Nothing is called
// damaged, and nothing is repaired.
func TestSegmentOfAnotherKeyAppears(t *testing.T) {
	c, cfg := filled(t, 6, 20)
	cfg.AtRest, _ = ring(t, 2)
	other := mustOpen(t, cfg)
	must(t, other.Reencrypt(t.Context()))
	mustClose(t, other)
	mine := Config{Dir: memDir(t), SegmentBytes: cfg.SegmentBytes}
	mine.AtRest, _ = ring(t, 1)
	n := mustOpen(t, mine)
	for i := range 20 {
		if _, err := n.Put(t.Context(), uint64(i), c.blocks[i].Bytes()); err != nil {
			t.Fatal(err)
		}
	}
	path := n.segmentPath(0)
	data, err := os.ReadFile(filepath.Join(cfg.Dir, "segments", filepath.Base(path)))
	must(t, err)
	must(t, os.WriteFile(path+".x", data, 0o600))
	must(t, os.Rename(path+".x", path))
	must(t, n.files.forget(0))
	if a := n.Read([]wire.Place{{}}, 1, nil)[0]; a.Status != wire.ReadFailed {
		t.Errorf("status %d", a.Status)
	}
	status := c.ended(t, n, 20)
	if status.Report != nil || status.Unread != nil || !strings.Contains(status.Error, "key") {
		t.Errorf("%+v", status)
	}
	order := wire.ReceiveOrder{Ticket: "t", Keep: 20, Pieces: c.pieces(chain.Range{From: 0, To: 1})}
	if _, err := n.Receive(t.Context(), order); err != nil {
		t.Fatal(err)
	}
	stream := streamOf(t, c.source(t), order.Pieces)
	if err := n.Take(t.Context(), "t", bytes.NewReader(stream)); !errors.Is(err, ErrCannotRead) {
		t.Errorf("Take: %v", err)
	}
	if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, data) {
		t.Errorf("the file was changed: %v", err)
	}
}

// marked is in all payloads of TestNoPlainText.
const marked = "this text must not be on the disk"

// growMarked adds blocks whose payloads, keys and types have the mark.
func growMarked(t testing.TB, c *testChain, height int) {
	t.Helper()
	for len(c.blocks) < height {
		growRecords(t, c, 3, func(i int) chain.Record {
			return chain.Record{Project: 1, Key: marked, Type: marked, Payload: bytes.Repeat([]byte(marked), 1+90*i)}
		})
	}
}

// growRecords adds a block of given records.
func growRecords(t testing.TB, c *testChain, count int, record func(i int) chain.Record) {
	t.Helper()
	head := c.verifier.Head()
	tree := head.Tree
	var body []byte
	var ends []uint32
	for i := range count {
		r := record(i)
		r.Time, r.Salt[0] = startTime+1000*head.Height, byte(head.Height)
		body = r.AppendTo(body)
		ends = append(ends, uint32(len(body)))
		tree = tree.Append(r.Leaf().Hash())
	}
	h := chain.Header{
		Version: chain.Version, Block: head.Height, First: head.Tree.Size(), Count: uint32(count),
		Prev: head.Hash, Root: tree.Root(), Time: startTime + 1000*head.Height, Difficulty: 1,
	}
	var found bool
	if h.Nonce, found = chain.Solve(h.Inner(), h.Difficulty, 0, 1<<20); !found {
		t.Fatal("no nonce")
	}
	b, err := chain.NewBlock(h, ends, body)
	must(t, err)
	_, err = c.verifier.Take(&b)
	must(t, err)
	c.blocks = append(c.blocks, b)
	c.sizes = append(c.sizes, c.verifier.Head().Tree.Size())
}

// noMark checks that no file below a folder has the mark.
func noMark(t *testing.T, dir, when string) {
	t.Helper()
	must(t, filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if bytes.Contains(data, []byte(marked)) {
			t.Errorf("%s: %s has plain text", when, path)
		}
		return err
	}))
}

// TestNoPlainText looks for a mark in all files of a folder: after puts, with blocks in the inbox, after a crash in the
// middle of a write, after damage was repaired, after the chain was cut, and while a segment is rewritten.
func TestNoPlainText(t *testing.T) {
	withKeys(t)
	const height = 12
	c := newTestChain(9)
	growMarked(t, c, height+4)
	source := c.source(t)
	cfg := Config{AtRest: testKeys, Dir: memDir(t), SegmentBytes: 60_000}
	n := mustOpen(t, cfg)
	for i := range uint64(height) {
		if _, err := n.Put(t.Context(), i, c.blocks[i].Bytes()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := n.PutInbox(t.Context(), height+2, c.blocks[height+2].Bytes()); err != nil {
		t.Fatal(err)
	}
	n.indexer.await(t.Context(), c.statusAt(height).Size)
	noMark(t, cfg.Dir, "puts and inbox")
	path, p := segmentOf(t, n, height-1)
	crash(t, n)
	short(t, path, p.End()-5)
	noMark(t, cfg.Dir, "torn")
	n = mustOpen(t, cfg)
	noMark(t, cfg.Dir, "after the tail was cut")
	if len(quarantined(t, n)) == 0 {
		t.Error("the tail is not kept")
	}
	path, p = segmentOf(t, n, 5)
	flip(t, path, p.Offset+100)
	report := c.checked(t, n, height-1)
	order := wire.ReceiveOrder{Ticket: "t", Keep: height - 1, Pieces: c.pieces(report.Bad...)}
	_, err := n.Receive(t.Context(), order)
	must(t, err)
	stream := streamOf(t, source, order.Pieces)
	if err := n.Take(t.Context(), "t", bytes.NewReader(stream[:len(stream)/2])); err == nil {
		t.Error("half a stream")
	}
	noMark(t, cfg.Dir, "in a repair")
	must(t, n.Take(t.Context(), "t", bytes.NewReader(stream)))
	noMark(t, cfg.Dir, "repaired")
	c.putAll(t, n)
	must(t, n.Reencrypt(t.Context()))
	noMark(t, cfg.Dir, "encrypted again")
	c.repair(t, source, n, 7, chain.Range{From: 7, To: height + 4}) // as if the rest were another chain
	noMark(t, cfg.Dir, "cut")
	mustClose(t, n)
	noMark(t, cfg.Dir, "closed")
	verified(t, cfg.Dir, c, height+4)
}

// TestPlainFolderIsConverted starts a node with keys on a folder in clear. It must read everything at once, encrypt new
// blocks, and convert the old files while blocks are put and read.
func TestPlainFolderIsConverted(t *testing.T) {
	const height = 30
	c, cfg := filled(t, 40, height)
	c.growTo(t, height+20)
	plain := mustOpen(t, cfg)
	plain.indexer.await(t.Context(), c.statusAt(height).Size)
	if _, err := plain.PutInbox(t.Context(), height+15, c.blocks[height+15].Bytes()); err != nil {
		t.Fatal(err)
	}
	crash(t, plain) // the start writes the last segment again, too
	withKeys(t)
	cfg.AtRest, cfg.keysPause = testKeys, time.Millisecond
	n := mustOpen(t, cfg)
	c.check2(t, n, height, height+15)
	for number := uint64(height); number < height+10; number++ {
		if _, err := n.Put(t.Context(), number, c.blocks[number].Bytes()); err != nil {
			t.Fatal(err)
		}
		c.checkBlock(t, n, number%height, false)
	}
	await(t, cfg.Dir, func(f AtRestFiles) bool { return f.Plain == 0 && len(f.Keys) == 1 })
	c.clean(t, n, height+10)
	c.putAll(t, n)
	c.check(t, n, height+20)
	mustClose(t, n)
	verified(t, cfg.Dir, c, height+20)
	cfg.AtRest = nil
	if _, err := Open(cfg); !errors.Is(err, atrest.ErrNoKey) {
		t.Errorf("without keys: %v", err)
	}
}

// TestDamageDelaysTheConversion starts a node with keys on a folder in clear with a damaged block. Its segment stays in
// clear until a person confirms the block as lost. Then the old file is kept in quarantine/.
func TestDamageDelaysTheConversion(t *testing.T) {
	const height = 30
	c, cfg := filled(t, 45, height)
	plain := mustOpen(t, cfg)
	path, p := segmentOf(t, plain, 12)
	plain.indexer.await(t.Context(), c.statusAt(height).Size)
	mustClose(t, plain)
	flip(t, path, p.End()-1)
	withKeys(t)
	cfg.AtRest, cfg.keysPause = testKeys, time.Millisecond
	n := mustOpen(t, cfg)
	await(t, cfg.Dir, func(f AtRestFiles) bool { return f.Plain == 1 })
	if r := c.checked(t, n, height); len(r.Bad) != 1 || r.Bad[0] != (chain.Range{From: 12, To: 13}) {
		t.Fatalf("%+v", r)
	}
	if now, err := os.ReadFile(path); err != nil || now[4] != 1 {
		t.Errorf("the damaged segment was changed: %v", err)
	}
	// The conversion changes the sizes that the check counts.
	if status := c.ended(t, n, height, chain.Range{From: 12, To: 13}); status.Report == nil {
		t.Fatalf("%+v", status)
	}
	await(t, cfg.Dir, func(f AtRestFiles) bool { return f.Plain == 0 && f.Quarantine == 1 })
	for number := range uint64(height) {
		c.checkBlock(t, n, number, number == 12)
	}
	c.repairAll(t, c.source(t), n, height, []chain.Range{{From: 12, To: 13}})
}

// TestConversionKeepsItsRate: a running node does not convert a segment faster than the rate, from step to step.
func TestConversionKeepsItsRate(t *testing.T) {
	const height = 3 * convertStep
	c := newTestChain(48)
	c.growTo(t, height)
	cfg := Config{Dir: memDir(t)} // one segment
	plain := mustOpen(t, cfg)
	c.putAll(t, plain)
	path, _ := segmentOf(t, plain, 0)
	_, twoSteps := segmentOf(t, plain, 2*convertStep)
	mustClose(t, plain)
	keys, _ := ring(t, 1)
	cfg.AtRest, cfg.keysPause, cfg.convertRate = keys, time.Millisecond, twoSteps.Offset*10
	began := time.Now()
	n := mustOpen(t, cfg)
	await(t, cfg.Dir, func(f AtRestFiles) bool { return f.Plain == 0 })
	if took := time.Since(began); took < 90*time.Millisecond {
		t.Errorf("two thirds of %s were converted within %v, and take 100 ms", path, took)
	}
	c.check(t, n, height)
}

// TestConversionWithoutTheKeyFile takes the file of keys away after the start, as a mounted secret may be. What was put
// off is converted all the same, with the keys in memory.
func TestConversionWithoutTheKeyFile(t *testing.T) {
	const height = 30
	c, cfg := filled(t, 46, height)
	plain := mustOpen(t, cfg)
	path, p := segmentOf(t, plain, 12)
	plain.indexer.await(t.Context(), c.statusAt(height).Size)
	mustClose(t, plain)
	flip(t, path, p.End()-1)
	keys, file := ring(t, 1)
	cfg.AtRest, cfg.keysPause = keys, time.Millisecond
	n := mustOpen(t, cfg)
	await(t, cfg.Dir, func(f AtRestFiles) bool { return f.Plain == 1 })
	must(t, os.Remove(file))
	// A person confirms the loss.
	if status := c.ended(t, n, height, chain.Range{From: 12, To: 13}); status.Report == nil {
		t.Fatalf("%+v", status)
	}
	await(t, cfg.Dir, func(f AtRestFiles) bool { return f.Plain == 0 })
}

// TestRotationAfterARestoredHeader damages a copy of a segment's header before the key is replaced. A check restores
// the copy, and the header is then encrypted with the new key.
func TestRotationAfterARestoredHeader(t *testing.T) {
	const height = 30
	c := newTestChain(47)
	c.growTo(t, height)
	keys, file := ring(t, 1)
	cfg := Config{AtRest: keys, Dir: memDir(t), SegmentBytes: 2000, keysPause: time.Millisecond}
	n := mustOpen(t, cfg)
	c.putAll(t, n)
	damaged, _ := segmentOf(t, n, 12)
	flip(t, damaged, 10)
	old := keys.Current()
	keyFile(t, file+".new", 2, 1)
	must(t, os.Rename(file+".new", file))
	want, _ := ring(t, 2)
	others := 0
	await(t, cfg.Dir, func(f AtRestFiles) bool {
		others = f.Keys[want.Current()]
		return f.Keys[old] <= 2 && others > 1
	})
	for range 10 { // passes that find nothing to do
		time.Sleep(cfg.keysPause)
	}
	c.checked(t, n, height)
	await(t, cfg.Dir, func(f AtRestFiles) bool { return len(f.Keys) == 1 && f.Keys[want.Current()] > others })
	c.clean(t, n, height)
}

// await waits until the files of a folder are as wanted.
func await(t *testing.T, dir string, wanted func(AtRestFiles) bool) {
	t.Helper()
	var last AtRestFiles
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(time.Millisecond) {
		files, err := CountAtRest(dir)
		must(t, err)
		if last = files; wanted(files) {
			return
		}
	}
	t.Fatalf("the files are %+v", last)
}

// TestRotation replaces the key twice while blocks are put, read, checked and waiting in the inbox. Only headers
// change, and after it the old keys are not needed.
func TestRotation(t *testing.T) {
	const height = 60
	c := newTestChain(41)
	c.growTo(t, height+3)
	keys, path := ring(t, 1)
	cfg := Config{AtRest: keys, Dir: memDir(t), SegmentBytes: 2000, keysPause: time.Millisecond}
	n := mustOpen(t, cfg)
	if _, err := n.PutInbox(t.Context(), height+2, c.blocks[height+2].Bytes()); err != nil {
		t.Fatal(err)
	}
	var load sync.WaitGroup
	load.Go(func() {
		for number := range uint64(height) {
			if _, err := n.Put(t.Context(), number, c.blocks[number].Bytes()); err != nil {
				t.Errorf("block %d: %v", number, err)
				return
			}
			a := n.Read([]wire.Place{{Block: number / 2}}, 1, nil)[0]
			if !bytes.Equal(a.Record, c.blocks[number/2].Encoded(0)) {
				t.Errorf("block %d: status %d", number/2, a.Status)
			}
		}
	})
	for number := byte(2); number <= 3; number++ {
		keyFile(t, path+".new", number, number-1)
		must(t, os.Rename(path+".new", path))
		want, _ := ring(t, number)
		await(t, cfg.Dir, func(f AtRestFiles) bool {
			return f.Plain == 0 && len(f.Keys) == 1 && f.Keys[want.Current()] > 0
		})
	}
	load.Wait()
	c.clean(t, n, height)
	before := map[uint64][]byte{}
	for number := range uint64(height) {
		file, p := segmentOf(t, n, number)
		data, err := os.ReadFile(file)
		must(t, err)
		before[number] = data[p.Offset:p.End()]
	}
	keyFile(t, path+".new", 4, 3)
	must(t, os.Rename(path+".new", path))
	last, _ := ring(t, 4)
	await(t, cfg.Dir, func(f AtRestFiles) bool { return len(f.Keys) == 1 && f.Keys[last.Current()] > 0 })
	for number := range uint64(height) {
		file, p := segmentOf(t, n, number)
		data, err := os.ReadFile(file)
		must(t, err)
		if !bytes.Equal(before[number], data[p.Offset:p.End()]) {
			t.Fatalf("the frame of block %d was written again", number)
		}
	}
	mustClose(t, n)
	cfg.AtRest = last
	n = mustOpen(t, cfg)
	c.check2(t, n, height, height+2)
	must(t, n.Reencrypt(t.Context()))
	for number := range uint64(height) {
		file, p := segmentOf(t, n, number)
		data, err := os.ReadFile(file)
		must(t, err)
		if bytes.Equal(before[number], data[p.Offset:p.End()]) {
			t.Fatalf("block %d has the old data key", number)
		}
	}
	c.check2(t, n, height, height+2)
	c.clean(t, n, height)
	mustClose(t, n)
	testKeys = last
	t.Cleanup(func() { testKeys = nil })
	verified(t, cfg.Dir, c, height)
}

// check2 checks the blocks of a node that has one block in its inbox.
func (c *testChain) check2(t *testing.T, n *Node, height int, waiting uint64) {
	t.Helper()
	if s := n.Status(); s.Height != uint64(height) || !s.Inbox.Holds(waiting) {
		t.Fatalf("%+v", s)
	}
	for number := range uint64(height) {
		c.checkBlock(t, n, number, false)
	}
}

// TestRepairBetweenKeys repairs nodes with different keys, and one without, from each other.
func TestRepairBetweenKeys(t *testing.T) {
	const height = 30
	c, base := filled(t, 42, height)
	var nodes []*Node
	for i := range byte(3) {
		cfg := Config{Dir: copyDir(t, base.Dir), SegmentBytes: 2000}
		if i > 0 {
			cfg.AtRest, _ = ring(t, i)
		}
		n := mustOpen(t, cfg)
		if i > 0 {
			must(t, n.Reencrypt(t.Context()))
		}
		nodes = append(nodes, n)
	}
	for i, from := range nodes {
		for k, to := range nodes {
			if i == k {
				continue
			}
			path, p := segmentOf(t, to, uint64(10+i))
			flip(t, path, p.Offset+60)
			r := c.checked(t, to, height)
			if len(r.Bad) != 1 {
				t.Fatalf("%d to %d: %+v", i, k, r)
			}
			c.repair(t, from, to, height, r.Bad...)
			c.clean(t, to, height)
		}
	}
	for _, n := range nodes {
		c.check(t, n, height)
		mustClose(t, n)
		testKeys = n.cfg.AtRest
		verified(t, n.cfg.Dir, c, height)
	}
	testKeys = nil
}

// TestMovedFrames puts frames of an encrypted segment in other places, in the same file and in another. All of that is
// damage.
func TestMovedFrames(t *testing.T) {
	withKeys(t)
	const height = 6
	c := newTestChain(43)
	for range height {
		growFixed(t, c, 2, 100) // all frames have one size
	}
	base := Config{AtRest: testKeys, Dir: memDir(t), SegmentBytes: 1 << 20}
	n := mustOpen(t, base)
	c.putAll(t, n)
	mustClose(t, n)
	for name, row := range map[string]struct {
		bad    int
		attack func(file, other []byte, at func(block uint64) (from, to int64))
	}{
		"two frames swapped": {2, func(file, _ []byte, at func(uint64) (int64, int64)) {
			from, to := at(2)
			next, end := at(3)
			kept := bytes.Clone(file[from:to])
			copy(file[from:to], file[next:end])
			copy(file[next:end], kept)
		}},
		"a frame of another file": {1, func(file, other []byte, at func(uint64) (int64, int64)) {
			from, to := at(2)
			copy(file[from:to], other[from:to])
		}},
		"the header of another file": {height, func(file, other []byte, _ func(uint64) (int64, int64)) {
			copy(file[:8192], other[:8192])
		}},
	} {
		cfg := base
		cfg.Dir = copyDir(t, base.Dir)
		twin := mustOpen(t, Config{AtRest: testKeys, Dir: memDir(t), SegmentBytes: 1 << 20})
		c.putAll(t, twin)
		n := mustOpen(t, cfg)
		other, err := os.ReadFile(twin.segmentPath(0))
		must(t, err)
		edit(t, n.segmentPath(0), func(file []byte) []byte {
			row.attack(file, other, func(block uint64) (int64, int64) {
				_, p := segmentOf(t, n, block)
				return p.Offset, p.End()
			})
			return file
		})
		must(t, n.files.forget(0))
		r := c.checked(t, n, height)
		if chain.CountBlocks(r.Bad) != uint64(row.bad) {
			t.Errorf("%s: %+v", name, r)
		}
		c.repairAll(t, c.source(t), n, height, r.Bad)
	}
}

// TestEncryptionFaults fails every single operation while files get new headers and data keys, in each way, and then
// ends the process or cuts the power. The next start must have all blocks.
func TestEncryptionFaults(t *testing.T) {
	const height = 14
	c, base := filled(t, 44, height)
	c.growTo(t, height+3)
	n := mustOpen(t, base)
	if _, err := n.PutInbox(t.Context(), height+2, c.blocks[height+2].Bytes()); err != nil {
		t.Fatal(err)
	}
	mustClose(t, n)
	old := base
	old.Dir = copyDir(t, base.Dir)
	old.AtRest, _ = ring(t, 1)
	n = mustOpen(t, old)
	must(t, n.Reencrypt(t.Context()))
	mustClose(t, n)
	keys, _ := ring(t, 2, 1)
	for name, from := range map[string]Config{"plain": base, "another key": old} {
		for _, data := range []bool{false, true} {
			for _, how := range []string{notDone, halfDone, done} {
				for _, power := range []bool{false, true} {
					hit := !testing.Short() || power && (how == halfDone || !data)
					for left := 0; hit; left++ {
						cfg := from
						cfg.Dir, cfg.AtRest, cfg.keysPause = copyDir(t, from.Dir), keys, time.Hour
						what := fmt.Sprintf("%s, data %v, operation %d, %s, power cut %v", name, data, left, how, power)
						hit = encryptionFault(t, c, cfg, height, data, left, how, power, what)
					}
				}
			}
		}
	}
}

func encryptionFault(
	t *testing.T, c *testChain, cfg Config, height int, data bool, left int, how string, power bool, what string,
) bool {
	t.Helper()
	disk := newFaultyDisk(1<<30, how)
	cfg.open, cfg.writeFile = disk.open, disk.writeFile
	n := mustOpen(t, cfg)
	n.crypter.stop()
	n.indexer.job.stop()
	disk.mu.Lock()
	disk.left = left
	disk.mu.Unlock()
	err := n.encryptAll(t.Context(), data, 0)
	if (disk.hit != "") != (err != nil) || err != nil && (!errors.Is(err, ErrFailed) || !errors.Is(err, errDisk)) {
		t.Fatalf("%s (%s): %v", what, disk.hit, err)
	}
	crash(t, n)
	hit := disk.hit != ""
	if power {
		disk.powerCut(t)
	}
	cfg.open, cfg.writeFile = nil, nil
	n = mustOpen(t, cfg)
	n.crypter.stop()
	if s := n.Status(); s.Height != uint64(height) || !s.Inbox.Holds(uint64(height)+2) {
		t.Fatalf("%s: %+v", what, s)
	}
	for number := range uint64(height) {
		c.checkBlock(t, n, number, false)
	}
	if r := c.checked(t, n, height); len(r.Bad) > 0 || r.Unchecked != uint64(height) {
		t.Fatalf("%s: %+v", what, r)
	}
	must(t, n.encryptAll(t.Context(), false, 0))
	c.clean(t, n, height)
	mustClose(t, n)
	remove(t, cfg.Dir, "records") // its own goroutine encrypts it
	files, err := CountAtRest(cfg.Dir)
	if err != nil || files.Plain > 0 || len(files.Keys) != 1 || files.Keys[cfg.AtRest.Current()] == 0 {
		t.Fatalf("%s: %+v, %v", what, files, err)
	}
	return hit
}

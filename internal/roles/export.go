package roles

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/internal/worker"
	"github.com/chainstore/chainstore/storagenode/audit"
	"github.com/chainstore/chainstore/verify"
	"github.com/chainstore/chainstore/verify/export"
)

// ExportConfig says what is exported, and where to.
type ExportConfig struct {
	Data string // a storage node's data folder; the node may be running
	Out  string // file that is made; it must not be there
	// Keys and Checkpoints go into the file: verifier keys of the log, and signed checkpoints, each of which must be of the chain in the folder.
	Keys, Checkpoints []string
	// UnsignedTail exports the blocks behind the newest checkpoint too. Without it the export ends where that checkpoint
	// ends. Where there is no checkpoint the export has the whole chain either way.
	UnsignedTail bool
	Progress     func(done, total int64) // bytes of the folder; may be nil
}

// ErrCheckpointAhead: the folder's chain does not go as far as a checkpoint.
var ErrCheckpointAhead = errors.New("the node has not yet what the checkpoint covers")

// Exported says what an export holds.
type Exported struct {
	export.End
	Covered uint64 // blocks of the file that a checkpoint in it covers
	LeftOut uint64 // blocks of the folder that are not in the file: none of its checkpoints covers them
}

// ExportStorage writes the chain of a storage node's folder into one file, each block verified on its way. The file is
// there whole or not at all.
func ExportStorage(ctx context.Context, cfg ExportConfig) (Exported, error) {
	if _, err := os.Lstat(cfg.Out); !errors.Is(err, fs.ErrNotExist) {
		return Exported{}, errors.Join(fmt.Errorf("%s is there already: nothing is overwritten; name another file",
			cfg.Out), err)
	}
	group, err := groupOf(cfg.Data)
	if err != nil {
		return Exported{}, err
	}
	var due []verify.Checkpoint
	var newest uint64 // size of the newest checkpoint
	for _, signed := range cfg.Checkpoints {
		cp, err := verify.ReadCheckpoint(signed)
		if err != nil {
			return Exported{}, err
		}
		due, newest = append(due, cp), max(newest, cp.Size)
	}
	var end, covered chain.Head
	var done Exported
	err = durable.Write(cfg.Out, 0o600, func(to io.Writer) error {
		w, err := export.NewWriter(to, group, cfg.Keys, cfg.Checkpoints)
		if err != nil {
			return err
		}
		ends := map[uint64]bool{0: true} // sizes of checkpoints at which a block ends
		head, err := audit.ReadFolder(ctx, cfg.Data, cfg.Progress, func(b *chain.Block, at chain.Head) error {
			for _, cp := range due {
				if cp.Size != at.Tree.Size() {
					continue
				}
				if cp.Root != at.Tree.Root() {
					return fmt.Errorf("the chain in %s is not that of the checkpoint: %d leaves have the root %v here, and %v there", cfg.Data, cp.Size, at.Tree.Root(), cp.Root)
				}
				ends[cp.Size], covered = true, at
			}
			if len(due) > 0 && at.Tree.Size() > newest && !cfg.UnsignedTail {
				done.LeftOut++
				return nil
			}
			end = at
			return w.Block(b)
		})
		if err != nil {
			return err
		}
		for _, cp := range due {
			switch {
			case cp.Size > head.Tree.Size():
				return fmt.Errorf("%w: %d leaves are in %s, %d in the checkpoint: export from a storage node that has them, or again later",
					ErrCheckpointAhead, head.Tree.Size(), cfg.Data, cp.Size)
			case !ends[cp.Size]:
				return fmt.Errorf("the chain in %s is not that of the checkpoint, whose %d leaves do not end at a block",
					cfg.Data, cp.Size)
			}
		}
		if end.Height == 0 && done.LeftOut > 0 {
			return fmt.Errorf("the newest checkpoint covers none of the %d blocks in %s: export again when the log has signed"+
				" them, or with --unsigned-tail", done.LeftOut, cfg.Data)
		}
		return w.End(end)
	})
	done.End, done.Covered = export.EndOf(end), covered.Height
	var bad *chain.BlockError
	if errors.As(err, &bad) {
		err = fmt.Errorf("the chain in %s is not whole, and no export was written: export from another storage node: %w", cfg.Data, err)
	}
	return done, err
}

// groupOf reads which group a storage node is of, and the highest order that it has seen.
func groupOf(dir string) (export.Group, error) {
	id, err := worker.ReadIdentity(dir)
	if err != nil {
		return export.Group{}, err
	}
	fence, err := worker.OpenFence(dir)
	if err != nil {
		return export.Group{}, err
	}
	order, _ := fence.Highest()
	return export.Group{ID: id.Group, Epoch: order.Epoch, Term: order.Term}, nil
}

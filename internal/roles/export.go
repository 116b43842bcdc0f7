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

// ExportConfig configures an export.
type ExportConfig struct {
	Data string // data folder of a storage node, which may be running
	Out  string // file to make; it must not exist
	// Keys and Checkpoints go into the file: verifier keys of the log, and signed checkpoints of the chain in the
	// folder.
	Keys, Checkpoints []string
	// UnsignedTail also exports the blocks after the newest checkpoint. Without it the export ends with the last block
	// that the checkpoint covers. Without a checkpoint the export always has the whole chain.
	UnsignedTail bool
	AtRestKeys   string                  // file with the keys of an encrypted folder; "" for none
	Progress     func(done, total int64) // bytes of the folder; may be nil
}

// Exported describes an export.
type Exported struct {
	export.End
	Covered uint64 // blocks of the file that a checkpoint in it covers
	LeftOut uint64 // blocks of the folder that are not in the file, since none of its checkpoints covers them
}

// ExportStorage writes the chain of a storage node's folder into one file and verifies each block. The file appears
// complete or not at all.
func ExportStorage(ctx context.Context, cfg ExportConfig) (Exported, error) {
	if _, err := os.Lstat(cfg.Out); !errors.Is(err, fs.ErrNotExist) {
		return Exported{}, errors.Join(fmt.Errorf("%s exists: nothing is overwritten; name another file",
			cfg.Out), err)
	}
	keys, err := loadAtRest(cfg.AtRestKeys)
	if err != nil {
		return Exported{}, err
	}
	folder := audit.Folder{Path: cfg.Data, AtRest: keys}
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
		head, err := folder.Read(ctx, cfg.Progress, func(b *chain.Block, at chain.Head) error {
			for _, cp := range due {
				if cp.Size != at.Tree.Size() {
					continue
				}
				if cp.Root != at.Tree.Root() {
					return fmt.Errorf("the chain in %s is not that of the checkpoint: %d leaves have the root %v in "+
						"the chain, and %v in the checkpoint", cfg.Data, cp.Size, at.Tree.Root(), cp.Root)
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
				return fmt.Errorf("the node does not have all that the checkpoint covers yet: %d leaves are in %s, %d "+
					"in the checkpoint: export from a storage node that has them, or again later", head.Tree.Size(),
					cfg.Data, cp.Size)
			case !ends[cp.Size]:
				return fmt.Errorf("the chain in %s is not that of the checkpoint, whose %d leaves end inside a block",
					cfg.Data, cp.Size)
			}
		}
		if end.Height == 0 && done.LeftOut > 0 {
			return fmt.Errorf("the newest checkpoint covers none of the %d blocks in %s: export again when the log "+
				"has signed them, or with --unsigned-tail", done.LeftOut, cfg.Data)
		}
		return w.End(end)
	})
	done.End, done.Covered = export.EndOf(end), covered.Height
	var bad *chain.BlockError
	if errors.As(err, &bad) {
		err = fmt.Errorf("the chain in %s is damaged, and no export was written: export from another storage node: %w",
			cfg.Data, err)
	}
	return done, err
}

// groupOf reads the group of a storage node, and the highest order that it has seen.
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

package inspect

import (
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/chainstore/chainstore/client"
	"github.com/chainstore/chainstore/cmd/chainstore/internal/cli"
	"github.com/chainstore/chainstore/cmd/chainstore/internal/render"
	"github.com/chainstore/chainstore/wire"
)

const (
	defaultBlocks = 20
	// blocksPage is the number of blocks in one request.
	blocksPage = 100
)

// NewBlocks lists the chain's blocks.
func NewBlocks() *cobra.Command {
	var limit uint64
	var asJSON bool
	cmd := cli.UseCluster(&cobra.Command{
		Use:   "blocks",
		Short: "List the newest blocks",
		Long:  `List the mined blocks, the newest first. The hash and the proof of work of each header are verified.`,
	}, cli.AsAny, 0, func(cmd *cobra.Command, c *client.Client, _ []string) error {
		out := cmd.OutOrStdout()
		table := &blockTable{out: out}
		var cursor string
		for listed := uint64(0); limit == 0 || listed < limit; {
			ask := uint64(blocksPage)
			if limit != 0 {
				ask = min(ask, limit-listed)
			}
			page, err := c.Blocks(cmd.Context(), cursor, int(ask))
			if err != nil {
				return err
			}
			if asJSON {
				err = printBlockLines(out, page.Blocks)
			} else {
				err = table.print(page.Blocks)
			}
			if err != nil {
				return err
			}
			listed += uint64(len(page.Blocks))
			if page.Next == "" || len(page.Blocks) == 0 {
				return nil
			}
			cursor = page.Next
		}
		return nil
	})
	cmd.Flags().Uint64Var(&limit, "limit", defaultBlocks, "list at most `N` blocks, 0 for all")
	cli.NoFiles(cmd, "limit")
	cli.AddJSON(cmd, &asJSON, "print one JSON object a line for each block")
	return cmd
}

func printBlockLines(w io.Writer, blocks []wire.Block) error {
	for i := range blocks {
		if err := render.JSON(w, blocks[i]); err != nil {
			return err
		}
	}
	return nil
}

// blockTable prints pages of blocks in columns. The first page sets the widths, since older blocks have smaller
// numbers.
type blockTable struct {
	out          io.Writer
	block, first int // widths, 0 before the first page
}

func (t *blockTable) print(blocks []wire.Block) error {
	if t.block == 0 {
		t.block, t.first = len("BLOCK"), len("FIRST")
		if len(blocks) > 0 {
			t.block = max(t.block, len(strconv.FormatUint(blocks[0].Block, 10)))
			t.first = max(t.first, len(strconv.FormatUint(blocks[0].First, 10)))
		}
		_, err := fmt.Fprintf(t.out, "%-*s  RECORDS  %-*s  %-25s  DIFFICULTY  HASH\n", t.block, "BLOCK", t.first,
			"FIRST", "TIME")
		if err != nil {
			return err
		}
	}
	for i := range blocks {
		b := &blocks[i]
		_, err := fmt.Fprintf(t.out, "%-*d  %-7d  %-*d  %-25s  %-10d  %s\n",
			t.block, b.Block, b.Count, t.first, b.First, render.LocalTime(b.Time), b.Difficulty, b.Hash.String()[:12])
		if err != nil {
			return err
		}
	}
	return nil
}

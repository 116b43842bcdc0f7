package inspect

import (
	"fmt"

	"github.com/spf13/cobra"

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
	cmd := cli.UseCluster(&cobra.Command{
		Use:   "blocks",
		Short: "List the newest blocks",
		Long:  `List the mined blocks, the newest first. The hash and the proof of work of each header are verified.`,
	}, cli.Use{Role: cli.AsAny, JSON: "print one JSON object a line for each block"}, func(c *cli.Call) error {
		var format string
		var cursor string
		for listed := uint64(0); limit == 0 || listed < limit; {
			ask := uint64(blocksPage)
			if limit != 0 {
				ask = min(ask, limit-listed)
			}
			page, err := c.Blocks(c.Ctx, cursor, int(ask))
			if err != nil {
				return err
			}
			text := ""
			if listed == 0 {
				format = blockFormat(page.Blocks)
				text = fmt.Sprintf(format, "BLOCK", "RECORDS", "FIRST", "TIME", "DIFFICULTY", "HASH")
			}
			for _, b := range page.Blocks {
				text += fmt.Sprintf(format, b.Block, b.Count, b.First, render.LocalTime(b.Time), b.Difficulty,
					b.Hash.String()[:12])
			}
			if err := cli.PrintList(c, page.Blocks, text); err != nil {
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
	return cmd
}

// blockFormat returns the format of a row. The first page sets the widths, since older blocks have smaller numbers.
func blockFormat(blocks []wire.Block) string {
	number, first := len("BLOCK"), len("FIRST")
	if len(blocks) > 0 {
		number = max(number, len(render.Number(blocks[0].Block)))
		first = max(first, len(render.Number(blocks[0].First)))
	}
	return fmt.Sprintf("%%-%dv  %%-7v  %%-%dv  %%-25v  %%-10v  %%v\n", number, first)
}

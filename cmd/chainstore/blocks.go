package main

import (
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/chainstore/chainstore/httpapi/wire"
)

const (
	defaultBlocks = 20
	// blocksPage is how many blocks are asked for at a time.
	blocksPage = 100
)

// newBlocksCommand lists the chain's blocks.
func newBlocksCommand() *cobra.Command {
	var limit uint64
	var asJSON bool
	cmd := &cobra.Command{
		Use:               "blocks",
		Short:             "List the newest blocks",
		Long:              `List the mined blocks, the newest first. Each header is held against its hash and its proof of work.`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	connect := addConnection(cmd, asAny)
	cmd.Flags().Uint64Var(&limit, "limit", defaultBlocks, "list at most `N` blocks, 0 for all")
	mustComplete(cmd.RegisterFlagCompletionFunc("limit", cobra.NoFileCompletions))
	addJSON(cmd, &asJSON, "print one JSON object a line for each block")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := connect.open(0)
		if err != nil {
			return err
		}
		defer c.CloseIdle()
		out := cmd.OutOrStdout()
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
				err = printBlockRows(out, page.Blocks, listed == 0)
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
	}
	return cmd
}

func printBlockLines(w io.Writer, blocks []wire.Block) error {
	for i := range blocks {
		if err := printJSON(w, blocks[i]); err != nil {
			return err
		}
	}
	return nil
}

// printBlockRows prints a page of the table. Numbers only shrink towards older blocks, so every page gets the head's widths
// or less; a page is aligned in itself.
func printBlockRows(w io.Writer, blocks []wire.Block, head bool) error {
	var rows [][]string
	if head {
		rows = append(rows, []string{"BLOCK", "RECORDS", "FIRST", "TIME", "DIFFICULTY", "HASH"})
	}
	for i := range blocks {
		b := &blocks[i]
		rows = append(rows, []string{
			// Padded to the head's names, so that later pages stand below them.
			fmt.Sprintf("%-5d", b.Block), fmt.Sprintf("%-7d", b.Count), strconv.FormatUint(b.First, 10),
			localTime(b.Time), fmt.Sprintf("%-10d", b.Difficulty), b.Hash.String()[:12],
		})
	}
	return printRows(w, rows)
}

// localTime is a time of the chain, unix milliseconds, in RFC 3339 and the local zone.
func localTime(ms uint64) string { return time.UnixMilli(int64(ms)).Format(time.RFC3339) }

package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/storagenode"
)

// verified is what verify --json prints.
type verified struct {
	Valid   bool       `json:"valid"`
	Height  uint64     `json:"height"` // blocks that are good, from 0 on; as are those below
	Records uint64     `json:"records"`
	Size    uint64     `json:"size"` // of the tree
	Head    chain.Hash `json:"head"` // hash of the last good block
	Torn    int64      `json:"torn"` // bytes of a write that was cut short behind it
	// Bad is the first block that is not good, where one is the reason.
	Bad   *uint64 `json:"bad_block,omitempty"`
	Error string  `json:"error,omitempty"`
	// Findings are the first of what is wrong; Ranges all blocks that are bad; Lost the bad ones that a person confirmed as lost,
	// which are no reason.
	Findings []chain.Finding `json:"findings"`
	Ranges   []chain.Range   `json:"bad"`
	Lost     []chain.Range   `json:"lost"`
	// Unchecked is the first block that could not be looked at, because bad blocks before it hide the tree.
	Unchecked uint64 `json:"unchecked,omitempty"`
}

// newVerifyCommand checks a storage node's folder.
func newVerifyCommand() *cobra.Command {
	var dir string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "verify --data STORAGE_DIR",
		Short: "Check the chain in a storage node's folder, offline",
		Long: `Check the chain in the data folder of a storage node, from block 0 to its end: every payload is hashed again, every block held
against the one before it, the tree and its proof of work. Nothing is changed, no cluster is needed, and the node may be
running or not.

It prints the number of blocks and records and the hash of the last block, and last "chain valid". Otherwise it lists what is
wrong and which blocks are bad, names the first of them, and the exit status is 1. Blocks that a person has confirmed as lost are
listed each time; they alone make no chain invalid.`,
		Example:           "  chainstore verify --data chainstore-data/storage1",
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if dir == "" {
				return errors.New("name the data folder of a storage node with --data (the \"storages\" of a cluster.json list theirs)")
			}
			return verify(cmd, dir, asJSON)
		},
	}
	cmd.Flags().StringVar(&dir, "data", "", "data `folder` of a storage node")
	mustComplete(cmd.MarkFlagDirname("data"))
	addJSON(cmd, &asJSON, "print the result as one JSON object")
	return cmd
}

func verify(cmd *cobra.Command, dir string, asJSON bool) error {
	bar := newByteBar(cmd.ErrOrStderr(), "verify")
	found, err := storagenode.Verify(cmd.Context(), dir, bar.set)
	bar.done()
	if cause := cmd.Context().Err(); cause != nil && err != nil {
		return fmt.Errorf("stopped after %s, good so far", counted(found.Height, "block"))
	}
	var bad *chain.BlockError
	isBad := errors.As(err, &bad)
	if isBad {
		err = fmt.Errorf("the chain is not valid: the first bad block is %d: %w", bad.Block, bad.Err)
	}
	out := cmd.OutOrStdout()
	if asJSON {
		v := verified{
			Valid: err == nil, Height: found.Height, Records: found.Records, Size: found.Size, Head: found.Hash, Torn: found.Torn,
			Findings: orEmpty(found.Findings), Ranges: orEmpty(found.Bad), Lost: orEmpty(found.Lost), Unchecked: found.Unchecked,
		}
		if isBad {
			v.Bad = &bad.Block
		}
		if err != nil {
			v.Error = err.Error()
		}
		return errors.Join(err, printJSON(out, v))
	}
	if _, err := io.WriteString(out, verifyText(&found, widthOf(out))); err != nil {
		return err
	}
	if err != nil {
		return err
	}
	if found.Torn > 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "%s behind the last block are of a write that was cut short; the node moves them aside at its next start\n",
			bytesText(found.Torn))
	}
	_, err = fmt.Fprintf(out, "height   %d\nrecords  %d\nhead     %v\nchain valid\n", found.Height, found.Records, found.Hash)
	return err
}

// verifyText lists what is wrong, which blocks are bad, and which are confirmed as lost; "" where all is good.
func verifyText(found *storagenode.Summary, width int) string {
	var b strings.Builder
	for _, f := range found.Findings {
		writeWrapped(&b, "", findingText(f), width)
	}
	if len(found.Bad) > 0 {
		writeWrapped(&b, "", "bad: "+runsText(found.Bad), width)
	}
	if found.Unchecked > 0 {
		fmt.Fprintf(&b, "blocks from %d on could not be looked at: bad ones before them hide the tree\n", found.Unchecked)
	}
	for _, r := range found.Lost {
		if r.Len() == 1 {
			fmt.Fprintf(&b, "block %d is lost; confirmed\n", r.From)
		} else {
			fmt.Fprintf(&b, "blocks %d to %d are lost; confirmed\n", r.From, r.To-1)
		}
	}
	return b.String()
}

// orEmpty is a list that JSON shows as one where it is empty, too.
func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/cmd/chainstore/internal/render"
	"github.com/chainstore/chainstore/wire"
)

// defaultEvents is how many events of the story are shown.
const defaultEvents = 20

// newIntegrityCommand shows how the storage nodes stand and what was found and repaired.
func newIntegrityCommand() *cobra.Command {
	var limit uint64
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "integrity",
		Short: "Show the state of the storage nodes, lost blocks, and what was found and repaired",
		Long: `Show how the storage nodes stand: their state, when each was last checked, which blocks are bad, what
is under way or due; blocks
that are lost; and the story of what was found and repaired, the newest first.`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	// Not for the commands below it: they take another token.
	connect := addLocalConnection(cmd, asAny)
	cmd.Flags().Uint64Var(&limit, "limit", defaultEvents, "show at most `N` events, 0 for all that are kept")
	mustComplete(cmd.RegisterFlagCompletionFunc("limit", cobra.NoFileCompletions))
	addJSON(cmd, &asJSON, "print all of it as one JSON object on a line")
	cmd.AddCommand(newConfirmLostCommand())
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := connect.open(-1)
		if err != nil {
			return err
		}
		defer c.CloseIdle()
		in, err := c.Integrity(cmd.Context())
		if err != nil {
			return err
		}
		older := 0
		if limit != 0 && uint64(len(in.Events)) > limit {
			older = len(in.Events) - int(limit)
			in.Events = in.Events[:limit]
		}
		out := cmd.OutOrStdout()
		if asJSON {
			return render.JSON(out, in)
		}
		_, err = io.WriteString(out, render.Integrity(&in, older, time.Now(), render.Width(out)))
		return err
	}
	return cmd
}

// newConfirmLostCommand records that a person takes a block for lost.
func newConfirmLostCommand() *cobra.Command {
	var yes, asJSON bool
	cmd := &cobra.Command{
		Use:   "confirm-lost N",
		Short: "Confirm that block N is lost: no storage node has a good copy",
		Long: `Confirm that block N is lost. A block is reported as lost when no storage node of the cluster has a
good copy of it and the masters
do not hold it any more. Should a node that is away or was taken out have one, bring it back instead of confirming.

To confirm changes no byte of the chain. Storage nodes that lack nothing else count as valid from then on, and the
cluster stops
asking for the block. Its records cannot be read; all others can, with their proofs. Every verifier goes on to name
the block as
lost. The story keeps that it was confirmed, and when. When a good copy turns up after all, the block is back.

It takes the admin token. On a terminal it asks first; elsewhere it needs --yes.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return errors.New("name one block: integrity confirm-lost N")
			}
			return nil
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	connect := addConnection(cmd, asAdmin)
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	addJSON(cmd, &asJSON, "print how the cluster stands afterwards as one JSON object")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		block, err := strconv.ParseUint(args[0], 10, 64)
		if err != nil {
			return fmt.Errorf("%q is no block's number: give one that 'chainstore integrity' reports as lost", args[0])
		}
		asks := !yes
		if asks && !render.IsTerminal(cmd.InOrStdin()) {
			return fmt.Errorf("there is no terminal to ask on: to confirm that block %d is lost give --yes", block)
		}
		c, err := connect.open(0)
		if err != nil {
			return err
		}
		defer c.CloseIdle()
		if asks {
			in, err := c.Integrity(cmd.Context())
			if err != nil {
				return err
			}
			if !holds(in.Lost, block) {
				return fmt.Errorf("block %d is not reported as lost: nothing to confirm", block)
			}
			sure, err := confirm(cmd.InOrStdin(), cmd.ErrOrStderr(), confirmText(block, &in))
			if err != nil {
				return err
			}
			if !sure {
				return errors.New("nothing was changed")
			}
		}
		in, err := c.ConfirmLost(cmd.Context(), block)
		if err != nil {
			return err
		}
		out := cmd.OutOrStdout()
		if asJSON {
			return render.JSON(out, in)
		}
		_, err = fmt.Fprintf(out, "block %d is confirmed as lost\n", block)
		if left := render.Unconfirmed(&in); err == nil && len(left) > 0 {
			_, err = fmt.Fprintf(out, "lost and not confirmed: %s\n", render.Ranges(left))
		}
		return err
	}
	return cmd
}

func holds(list []chain.Range, block uint64) bool {
	for _, r := range list {
		if r.Holds(block) {
			return true
		}
	}
	return false
}

// confirmText says what it means to confirm that a block is lost.
func confirmText(block uint64, in *wire.Integrity) string {
	text := fmt.Sprintf("No storage node has a good copy of block %d. Should one that is away or was taken out have "+
		"it, bring that node back instead.\n", block)
	for i := range in.Nodes {
		if n := &in.Nodes[i]; !n.Live {
			text += fmt.Sprintf("%s is not live.\n", render.Node(n))
		}
	}
	return text + "Once confirmed, the block's records count as lost for good; all other records stay as they are.\n" +
		fmt.Sprintf("Confirm that block %d is lost? [y/N] ", block)
}

// confirm asks a question that is answered by a line with yes or no; anything but yes is no.
func confirm(in io.Reader, out io.Writer, question string) (bool, error) {
	if _, err := io.WriteString(out, question); err != nil {
		return false, err
	}
	line, err := bufio.NewReader(in).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	answer := strings.ToLower(strings.TrimSpace(line))
	return answer == "y" || answer == "yes", nil
}

package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/client"
	"github.com/chainstore/chainstore/cmd/chainstore/internal/render"
	"github.com/chainstore/chainstore/wire"
)

// defaultEvents is the number of events shown by default.
const defaultEvents = 20

// newIntegrityCommand shows the state of the storage nodes and the integrity log.
func newIntegrityCommand() *cobra.Command {
	var limit uint64
	var asJSON bool
	cmd := useCluster(&cobra.Command{
		Use:   "integrity",
		Short: "Show the state of the storage nodes, lost blocks, and what was found and repaired",
		Long: `Show the storage nodes: their state, when each was last checked, which blocks are bad, and which tasks
are running or due. Also show lost blocks and the integrity log, which has what was found and repaired, the newest
first.`,
	}, asAny, -1, func(cmd *cobra.Command, c *client.Client, _ []string) error {
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
	})
	cmd.Flags().Uint64Var(&limit, "limit", defaultEvents, "show at most `N` events, 0 for all that are kept")
	noFiles(cmd, "limit")
	addJSON(cmd, &asJSON, "print everything as one JSON object on a line")
	cmd.AddCommand(newConfirmLostCommand())
	return cmd
}

// newConfirmLostCommand records that an operator confirms a lost block.
func newConfirmLostCommand() *cobra.Command {
	var yes, asJSON bool
	var block uint64
	cmd := useCluster(&cobra.Command{
		Use:   "confirm-lost N",
		Short: "Confirm that block N is lost: no storage node has a good copy",
		Long: `Confirm that block N is lost. A block is reported as lost if no storage node of the cluster has a good
copy of it and the masters no longer have it. If a node that is offline or was removed may have a copy, bring that
node back instead.

The confirmation does not change the chain. Storage nodes that lack no other block count as valid from then on, and
the cluster stops looking for the block. Its records cannot be read. All other records can be read, with their proofs.
Every verifier still reports the block as lost. The integrity log keeps the confirmation and its time. If a good copy
is found later, the block is restored.

The command needs the admin token. On a terminal it asks first; elsewhere it needs --yes.`,
		Args: exactArgs("one block"),
		PreRunE: func(cmd *cobra.Command, args []string) (err error) {
			if block, err = strconv.ParseUint(args[0], 10, 64); err != nil {
				return fmt.Errorf("%q is not a block number: give one that 'chainstore integrity' reports as lost",
					args[0])
			}
			if !yes && !render.IsTerminal(cmd.InOrStdin()) {
				return fmt.Errorf("there is no terminal to ask on: to confirm that block %d is lost give --yes", block)
			}
			return nil
		},
	}, asAdmin, 0, func(cmd *cobra.Command, c *client.Client, _ []string) error {
		if !yes {
			in, err := c.Integrity(cmd.Context())
			if err != nil {
				return err
			}
			if !slices.ContainsFunc(in.Lost, func(r chain.Range) bool { return r.Holds(block) }) {
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
	})
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	addJSON(cmd, &asJSON, "print the integrity report after the change as one JSON object")
	return cmd
}

// confirmText explains what the confirmation of a lost block means.
func confirmText(block uint64, in *wire.Integrity) string {
	text := fmt.Sprintf("No storage node has a good copy of block %d. If a node that is offline or was removed may "+
		"have one, bring that node back instead.\n", block)
	for i := range in.Nodes {
		if n := &in.Nodes[i]; !n.Live {
			text += fmt.Sprintf("%s is not live.\n", render.Node(n))
		}
	}
	return text + "Once confirmed, the block's records count as permanently lost; no other record changes.\n" +
		fmt.Sprintf("Confirm that block %d is lost? [y/N] ", block)
}

// confirm asks a question and reports whether the answer is y or yes, in upper or lower case.
func confirm(in io.Reader, out io.Writer, question string) (bool, error) {
	answer, err := ask(in, out, question)
	answer = strings.ToLower(answer)
	return answer == "y" || answer == "yes", err
}

// ask prints a question and reads one line as the answer.
func ask(in io.Reader, out io.Writer, question string) (answer string, err error) {
	if _, err := io.WriteString(out, question); err != nil {
		return "", err
	}
	line, err := bufio.NewReader(in).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	return strings.TrimSpace(line), nil
}

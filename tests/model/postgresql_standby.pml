/* Read from a horizon on, as on a standby: what ran at the last reading is not known there. */

/* A process's position, and what its check under way has read. */
bit  joined[PROCESSES];         /* it has one */
bit  of_session[PROCESSES];
byte horizon[PROCESSES];
byte known[PROCESSES];          /* rows at or above the horizon, as bits */
byte anchor[PROCESSES];         /* the newest row below it, plus one */
bit  new_session[PROCESSES];
byte new_horizon[PROCESSES];
byte new_known[PROCESSES];
byte new_anchor[PROCESSES];

inline below_the_horizon(k) {
    if
    :: new_anchor[p] == 0 || place[k] >= place[new_anchor[p] - 1] -> new_anchor[p] = k + 1
    :: else
    fi
}

inline ledger_read() {
    d_step {                    /* one statement, so one snapshot */
        checking[p] == 0 -> checking[p] = t + 1;
        find_lowest();
        new_horizon[p] = lowest;
        new_session[p] = session;
        new_known[p] = 0;
        new_anchor[p] = anchor[p];
        torn = !joined[p];
#ifndef HORIZON_KEPT_OVER_A_CRASH
        torn = torn || of_session[p] != session || lowest < horizon[p];
#endif
#ifndef PRUNE_WITHOUT_ANCHOR
        torn = torn || (anchor[p] && state[anchor[p] - 1] != THERE);
#endif
        seen = 0;
        if
        :: !torn && rows > 0 ->
            for (i : 0 .. rows - 1) {
                if
#ifdef GREATER_THAN_LAST_SEEN
                :: state[i] == THERE && i >= anchor[p] ->
                    new_anchor[p] = i + 1; news[p] = 1; named[p] = named[p] || ours[i]
#else
                :: state[i] == THERE && place[i] >= horizon[p] ->
                    seen = seen | (1 << i);
                    if
                    :: !((known[p] >> i) & 1) -> news[p] = 1; named[p] = named[p] || ours[i]
                    :: else
                    fi;
                    if
                    :: place[i] < lowest -> below_the_horizon(i)
                    :: else -> new_known[p] = new_known[p] | (1 << i)
                    fi
#endif
                :: else
                fi
            }
        :: else
        fi;
#ifndef PRUNE_WITHOUT_ANCHOR
        torn = torn || (anchor[p] == 0 && seen && lowest != horizon[p]);
        torn = torn || (known[p] & seen) != known[p];
#endif
        anew[p] = torn;
        if
        :: torn -> new_known[p] = 0; new_anchor[p] = 0; news[p] = 0; named[p] = 0
        :: else
        fi
    };
    if
    :: anew[p] ->               /* it starts over: the rows come in a statement of their own */
        d_step {
            for (i : 0 .. ROWS - 1) {
                if
#ifdef GREATER_THAN_LAST_SEEN
                :: state[i] == THERE -> new_anchor[p] = i + 1
#else
                :: state[i] == THERE && place[i] < new_horizon[p] -> below_the_horizon(i)
                :: state[i] == THERE && place[i] >= new_horizon[p] ->
                    new_known[p] = new_known[p] | (1 << i)
#endif
                :: else
                fi
            }
        }
    :: else
    fi
}

inline ledger_position() {
    joined[p] = 1;
    of_session[p] = new_session[p];
    horizon[p] = new_horizon[p]; known[p] = new_known[p]; anchor[p] = new_anchor[p];
    new_session[p] = 0; new_horizon[p] = 0; new_known[p] = 0; new_anchor[p] = 0
}

inline ledger_forget(p) {
    joined[p] = 0; of_session[p] = 0; horizon[p] = 0; known[p] = 0; anchor[p] = 0;
    new_session[p] = 0; new_horizon[p] = 0; new_known[p] = 0; new_anchor[p] = 0
}

/* Read exactly, as on a primary: the rows of what had not ended at the last reading. */

/* A process's position, and what its check under way has read. */
bit   joined[PROCESSES];        /* it has one */
bit   of_session[PROCESSES];
byte  horizon[PROCESSES];
byte  upper[PROCESSES];         /* the first number not given yet */
short running[PROCESSES];       /* the numbers of open transactions below it, as bits */
byte  anchor[PROCESSES];        /* the newest row below the horizon, plus one */
byte  head[PROCESSES];          /* the newest row seen, plus one */
bit   new_session[PROCESSES];
byte  new_horizon[PROCESSES];
byte  new_upper[PROCESSES];
short new_running[PROCESSES];
byte  new_anchor[PROCESSES];
byte  new_head[PROCESSES];

/* The snapshot of a statement. */
inline take_snapshot() {
    find_lowest();
    new_session[p] = session;
    new_horizon[p] = lowest; new_upper[p] = next_number; new_running[p] = 0;
    for (i : 0 .. THREADS - 1) {
        if
        :: number[i] -> new_running[p] = new_running[p] | (1 << number[i])
        :: else
        fi
    }
}

inline may_be_anchor(k) {
    if
    :: place[k] < new_horizon[p] &&
        (new_anchor[p] == 0 || place[k] >= place[new_anchor[p] - 1]) -> new_anchor[p] = k + 1
    :: else
    fi
}

inline head_above_the_horizon() {
    if
    :: new_head[p] && place[new_head[p] - 1] < new_horizon[p] -> new_head[p] = new_anchor[p]
    :: else
    fi
}

#ifdef RUNNING_IGNORED
#define HAD_NOT_ENDED(i) (place[i] >= upper[p])
#else
#define HAD_NOT_ENDED(i) (place[i] >= upper[p] || ((running[p] >> place[i]) & 1))
#endif

inline ledger_read() {
    d_step {                    /* one statement, so one snapshot */
        checking[p] == 0 -> checking[p] = t + 1;
        take_snapshot();
        new_anchor[p] = anchor[p];
        new_head[p] = head[p];
        torn = !joined[p];
#ifndef HORIZON_KEPT_OVER_A_CRASH
        torn = torn || of_session[p] != session || lowest < horizon[p];
#endif
#ifndef PRUNE_WITHOUT_ANCHOR
        torn = torn || (anchor[p] && state[anchor[p] - 1] != THERE);
#endif
#ifndef HEAD_NOT_VERIFIED
        torn = torn || (head[p] && state[head[p] - 1] != THERE);
#endif
        seen = 0;
        if
        :: !torn && rows > 0 ->
            for (i : 0 .. rows - 1) {
                if
                :: state[i] == THERE && HAD_NOT_ENDED(i) ->
                    seen = i + 1; news[p] = 1; named[p] = named[p] || ours[i];
                    may_be_anchor(i)
                :: else
                fi
            }
            if
            :: seen -> new_head[p] = seen
            :: new_head[p] && !seen -> may_be_anchor(new_head[p] - 1)
            :: else
            fi;
            head_above_the_horizon()
        :: else
        fi;
#ifdef ANCHOR_MISSED_BY_NEW_ROWS_ALONE
        torn = torn || (anchor[p] == 0 && seen && lowest != horizon[p]);
#else
        torn = torn || (anchor[p] == 0 && lowest != horizon[p]);
#endif
        anew[p] = torn;
        if
        :: torn ->
            new_session[p] = 0; new_horizon[p] = 0; new_upper[p] = 0; new_running[p] = 0;
            new_anchor[p] = 0; new_head[p] = 0; news[p] = 0; named[p] = 0
        :: else
        fi
    };
    if
    :: anew[p] ->               /* it starts over, in a statement for each */
        d_step { take_snapshot() };
        d_step {
            for (i : 0 .. ROWS - 1) {
                if
                :: state[i] == THERE -> may_be_anchor(i)
                :: else
                fi
            }
        };
        d_step {
            for (i : 0 .. ROWS - 1) {
                if
                :: state[i] == THERE -> new_head[p] = i + 1
                :: else
                fi
            }
            head_above_the_horizon()
        }
    :: else
    fi
}

inline forget_reading(p) {
    new_session[p] = 0; new_horizon[p] = 0; new_upper[p] = 0; new_running[p] = 0;
    new_anchor[p] = 0; new_head[p] = 0
}

inline ledger_position() {
    joined[p] = 1;
    of_session[p] = new_session[p];
    horizon[p] = new_horizon[p]; upper[p] = new_upper[p]; running[p] = new_running[p];
    anchor[p] = new_anchor[p]; head[p] = new_head[p];
    forget_reading(p)
}

inline ledger_forget(p) {
    joined[p] = 0; of_session[p] = 0; horizon[p] = 0; upper[p] = 0; running[p] = 0;
    anchor[p] = 0; head[p] = 0;
    forget_reading(p)
}

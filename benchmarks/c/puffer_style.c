// The standard game as a user of PufferLib 3 would write it: one struct per game with a log and pointers into shared
// buffers, c_reset and c_step for one game, and a vector that allocates each struct and loops over their pointers.
// Straightforward C; the peer of the environment benchmark.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define ITEMS 3
#define OFFERS 80
#define ACTIONS 82
#define ACCEPT 80
#define WALK 81
#define ROUNDS 3
#define MAX_TURNS 6
#define FEATURES 92
#define MASK_START 10

static const int QUANTITIES[ITEMS] = {7, 4, 1};

typedef struct {
    float episode_return, episode_length, n;
} Log;

typedef struct {
    Log log;
    float* observations;      // [FEATURES], the mover's
    unsigned char* masks;     // [ACTIONS]
    int* actions;             // [1]
    float* rewards;           // [2], one per seat
    unsigned char* terminals; // [1]
    uint32_t rng;
    int values[2][ITEMS];
    int totals[2];
    int outside[2];
    int offer; // -1 if there is none
    int turn;
} Bargain;

#ifdef LIBC_RAND // as the games that PufferLib ships draw
static uint32_t next_random(Bargain* env) {
    (void)env;
    return (uint32_t)rand();
}
#else
static uint32_t next_random(Bargain* env) { // xorshift32
    env->rng ^= env->rng << 13;
    env->rng ^= env->rng >> 17;
    env->rng ^= env->rng << 5;
    return env->rng;
}
#endif

// Units of each item that `seat` receives under `offer`, which names what seat 1 receives.
static void read_offer(int offer, int seat, int counts[ITEMS]) {
    counts[0] = offer / 10;
    counts[1] = offer / 2 % 5;
    counts[2] = offer % 2;
    if (seat == 0) {
        for (int i = 0; i < ITEMS; i++) counts[i] = QUANTITIES[i] - counts[i];
    }
}

static void compute_observations(Bargain* env) {
    float* obs = env->observations;
    const int seat = env->turn % 2;
    for (int i = 0; i < ITEMS; i++) obs[i] = env->values[seat][i] / 100.0f;
    obs[3] = (float)env->outside[seat] / env->totals[seat];
    if (env->offer >= 0) {
        int counts[ITEMS];
        read_offer(env->offer, seat, counts);
        for (int i = 0; i < ITEMS; i++) obs[4 + i] = (float)counts[i] / QUANTITIES[i];
    } else {
        for (int i = 0; i < ITEMS; i++) obs[4 + i] = -1.0f;
    }
    obs[7] = env->offer >= 0 ? 1.0f : 0.0f;
    obs[8] = (float)(env->turn / 2) / (ROUNDS - 1);
    obs[9] = (float)seat;
    memset(env->masks, env->turn < MAX_TURNS - 1, OFFERS);
    env->masks[ACCEPT] = env->offer >= 0;
    env->masks[WALK] = 1;
    for (int a = 0; a < ACTIONS; a++) obs[MASK_START + a] = env->masks[a];
}

static void deal(Bargain* env) {
    for (int seat = 0; seat < 2; seat++) {
        env->totals[seat] = 0;
        for (int i = 0; i < ITEMS; i++) {
            env->values[seat][i] = 1 + next_random(env) % 100;
            env->totals[seat] += QUANTITIES[i] * env->values[seat][i];
        }
        env->outside[seat] = 1 + next_random(env) % env->totals[seat];
    }
    env->offer = -1;
    env->turn = 0;
}

void c_reset(Bargain* env) {
    env->rewards[0] = env->rewards[1] = 0.0f;
    env->terminals[0] = 0;
    deal(env);
    compute_observations(env);
}

static void end(Bargain* env, int accepted) {
    for (int seat = 0; seat < 2; seat++) {
        int payoff = env->outside[seat];
        if (accepted) {
            int counts[ITEMS];
            read_offer(env->offer, seat, counts);
            payoff = 0;
            for (int i = 0; i < ITEMS; i++) payoff += counts[i] * env->values[seat][i];
        }
        env->rewards[seat] = (float)payoff / env->totals[seat];
    }
    env->terminals[0] = 1;
    env->log.episode_return += env->rewards[0] + env->rewards[1];
    env->log.episode_length += (float)(env->turn + 1);
    env->log.n += 1.0f;
    deal(env);
}

void c_step(Bargain* env) {
    const int action = env->actions[0];
    env->rewards[0] = env->rewards[1] = 0.0f;
    env->terminals[0] = 0;
    if (action < 0 || action >= ACTIONS || !env->masks[action]) {
        end(env, 0); // an illegal action is a walk
    } else if (action < OFFERS) {
        env->offer = action;
        env->turn++;
    } else {
        end(env, action == ACCEPT);
    }
    compute_observations(env);
}

// The vector of games ----------------------------------------------------------------------------

void puffer_close(Bargain** envs, int64_t num_envs) {
    for (int64_t i = 0; i < num_envs; i++) free(envs[i]);
    free(envs);
}

// Returns NULL if the memory does not suffice.
Bargain** puffer_make(int64_t num_envs, float* observations, unsigned char* masks, int* actions, float* rewards,
                      unsigned char* terminals) {
    Bargain** envs = calloc((size_t)num_envs, sizeof(Bargain*));
    if (envs == NULL) return NULL;
    for (int64_t i = 0; i < num_envs; i++) {
        Bargain* env = envs[i] = calloc(1, sizeof(Bargain));
        if (env == NULL) {
            puffer_close(envs, i);
            return NULL;
        }
        env->observations = observations + FEATURES * i;
        env->masks = masks + ACTIONS * i;
        env->actions = actions + i;
        env->rewards = rewards + 2 * i;
        env->terminals = terminals + i;
        env->rng = (uint32_t)(i + 1) * 2654435769u | 1u;
    }
    return envs;
}

void puffer_reset(Bargain** envs, int64_t num_envs) {
    for (int64_t i = 0; i < num_envs; i++) c_reset(envs[i]);
}

void puffer_step(Bargain** envs, int64_t num_envs) {
    for (int64_t i = 0; i < num_envs; i++) c_step(envs[i]);
}

// Copies the deals out: values [num_envs, 2, ITEMS] and outside [num_envs, 2].
void puffer_deals(Bargain** envs, int64_t num_envs, int* values, int* outside) {
    for (int64_t i = 0; i < num_envs; i++) {
        memcpy(values + 2 * ITEMS * i, envs[i]->values, sizeof envs[i]->values);
        memcpy(outside + 2 * i, envs[i]->outside, sizeof envs[i]->outside);
    }
}
